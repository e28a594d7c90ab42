"""Fields of records by name: all that the original library wrote, found in the bytes it made."""

import numpy as np
import pytest

from halfpipe.formats import evt_view
from tests.support.original_events import FIELDS, LPA_FILE, RECORDS


@pytest.mark.parametrize("kind", RECORDS)
def test_every_field_has_the_original_value(kind: str) -> None:
    found = {}
    for field in evt_view.fields(np.frombuffer(LPA_FILE[:176] + RECORDS[kind], np.uint8), 176, "simulated"):
        value = field.value.tobytes() if field.value.dtype.kind == "V" else field.value.item()
        part = field.part.replace("handler ", "") + "." if "handler" in field.part else ""
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        found[f"{part}{field.name}@{field.at - 176}"] = f"{value:.6f}" if isinstance(value, float) else value
    expected = dict(item.split("=") for item in FIELDS[kind].split())
    assert {name: str(found[name]) for name in expected} == expected


@pytest.mark.parametrize("kind", RECORDS)
def test_fields_cover_the_record_without_gaps(kind: str) -> None:
    record = LPA_FILE[:176] + RECORDS[kind]
    end = 176
    for field in evt_view.fields(np.frombuffer(record, np.uint8), 176, "simulated"):
        assert field.at == end
        size = 16 if field.name.endswith("Txt") else field.value.dtype.itemsize
        assert field.value.tobytes().ljust(size, b"\0") == record[end : end + size]
        end += size
    assert end == len(record)
