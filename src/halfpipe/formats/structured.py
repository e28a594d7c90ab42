"""Tables: structured arrays with typed columns, and fast copies of their rows.

Rows are copied as plain bytes. numpy would copy them field by field, which is ten times slower.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

T = TypeVar("T", bound=np.generic)
A = TypeVar("A", bound=NDArray[np.void])
Which = slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer]  # rows of a table


class Column(Generic[T]):
    """A column of a table: its type, and for text its length in bytes. A table returns it as a view."""

    def __init__(self, kind: type[T], length: int | None = None) -> None:
        self.kind = np.dtype((kind, length) if length else kind)

    def __set_name__(self, owner: type["Table"], name: str) -> None:
        self.name = name

    def __get__(self, table: "Table", owner: type["Table"]) -> NDArray[T]:
        """Return the values, shape (n,)."""
        return table.view(np.ndarray)[self.name]


class Table(np.ndarray[tuple[int], np.dtype[np.void]]):
    """A structured array, shape (n,). Its columns are attributes, so a type checker finds misspelt names.

    Slices and masks of a table are tables.
    """

    row: ClassVar[np.dtype[np.void]]
    """The packed dtype of a row, made of the columns."""

    def __init_subclass__(cls) -> None:
        columns = [(name, each) for base in reversed(cls.__mro__) for name, each in vars(base).items()]
        cls.row = np.dtype([(name, each.kind) for name, each in columns if isinstance(each, Column)])

    @classmethod
    def zeros(cls, length: int) -> Self:
        """Return a table of zeros."""
        return np.zeros(length, cls.row).view(cls)

    def split(self, borders: NDArray[np.intp]) -> list[Self]:
        """Return the parts of the table between row numbers, as views."""
        return [self[begin:end] for begin, end in pairwise([0, *borders.tolist(), len(self)])]

    if TYPE_CHECKING:  # numpy does this, but its types do not say that the result is a table

        @overload  # type: ignore[override]
        def __getitem__(self, which: Which) -> Self: ...
        @overload
        def __getitem__(self, which: str | list[str]) -> NDArray[Any]: ...
        def __getitem__(self, which: Any) -> Any: ...

        def take(self, which: NDArray[np.integer]) -> Self:  # type: ignore[override]
            """Return the rows with these numbers."""
            ...


def layout(*parts: str) -> np.dtype[np.void]:
    """Return a packed dtype; each part has a type and the names of fields of that type."""
    return np.dtype([(name, kind) for kind, *names in map(str.split, parts) for name in names])


def joined(parts: Sequence[A]) -> A:
    """Return the rows of one or more contiguous tables of one type, one table after the other."""
    table = np.empty(sum(map(len, parts)), parts[0].dtype).view(type(parts[0]))
    begin = 0
    for part in parts:
        put(table[begin : begin + len(part)], part)
        begin += len(part)
    return table


def put(room: NDArray[np.void], table: NDArray[np.void]) -> None:
    """Copy the rows of a contiguous table into `room`, which must have the same dtype."""
    whole = f"V{room.dtype.itemsize}"
    room.view(whole)[:] = table.view(whole)


def at_every_byte(data: Any, dtype: DTypeLike) -> NDArray[np.generic]:
    """View the bytes `data` as overlapping items, one starting at each byte; index with offsets to gather items."""
    item = np.dtype(dtype)
    view = memoryview(data)
    return np.ndarray(max(0, view.nbytes - item.itemsize + 1), item, buffer=view, strides=(1,))
