"""Rows as files for other programs: CSV, ECSV with units and time scales, and Parquet."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from io import StringIO

import pandas as pd

from halfpipe.errors import ConfigError
from halfpipe.tables.columns import UTC, flat


def content(found: pd.DataFrame | Sequence[Mapping[str, object]], form: str, *, simulated: bool) -> bytes:
    """Return the content of a file of rows in a format: ``csv``, ``ecsv`` or ``parquet``.

    Rows of SIMULATED data have a column `simulated`.

    Raises
    ------
    ConfigError
        If Parquet is wanted and pyarrow is not installed.
    """
    frame = found if isinstance(found, pd.DataFrame) else pd.DataFrame(list(found))
    if simulated and "simulated" not in frame:
        frame = frame.assign(simulated=True)
    table = flat(frame)
    if form == "parquet":
        if find_spec("pyarrow") is None:
            raise ConfigError("Parquet needs pyarrow: pip install pyarrow, in an environment of your own")
        return bytes(frame.to_parquet())
    if form == "csv":
        return str(table.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")).encode()
    from astropy.table import Table  # noqa: PLC0415 - half a second

    times = table.columns[table.dtypes == UTC]  # astropy has the scale instead of a zone
    table = table.assign(**{name: table[name].dt.tz_localize(None) for name in times})
    units = {name: unit for name, unit in frame.attrs.get("units", {}).items() if name in table}
    ecsv = Table.from_pandas(table, units=units)
    ecsv.meta["time"] = (
        "times are UTC; columns that end in met are seconds of MET, since 2001-01-01 00:00:00 UTC"
    )
    out = StringIO()
    ecsv.write(out, format="ascii.ecsv")
    return out.getvalue().encode()
