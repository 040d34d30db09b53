"""Tables of plain text."""

from meter_text.table import Align, shorten, table

__all__ = ["Align", "shorten", "table"]
