import json
import tempfile
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path

from meter_store import Book, Reading
from meter_units import parse


class BookTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "readings.jsonl")
        self.book = Book(self.file)

    def test_gives_back_what_was_written(self):
        at = datetime(2026, 3, 1, 8, 30, tzinfo=timezone.utc)
        self.book.add("power", parse("1,204.5 kWh"), at)
        self.assertEqual(Book(self.file).readings("power"), [Reading("power", at, parse("1204.5 kWh"))])

    def test_writes_lines_that_other_programs_can_read(self):
        at = datetime(2026, 3, 1, 8, 30, tzinfo=timezone(timedelta(hours=2)))
        self.book.add("power", parse("7 kWh"), at)
        self.assertEqual(
            json.loads(self.file.read_text()),
            {"meter": "power", "at": "2026-03-01T06:30:00+00:00", "amount": 7.0, "unit": "kWh"},
        )

    def test_a_reading_without_a_time_is_of_now(self):
        age = datetime.now(timezone.utc) - self.book.add("water", parse("3 m3")).at
        self.assertLess(abs(age), timedelta(minutes=1))

    def test_keeps_meters_apart(self):
        self.book.add("power", parse("7 kWh"))
        self.book.add("water", parse("3 m3"))
        self.assertEqual(self.book.last("power").shown, parse("7 kWh"))
        self.assertIsNone(self.book.last("gas"))

    def test_refuses_a_meter_that_counts_backwards(self):
        self.book.add("power", parse("7 kWh"))
        with self.assertRaisesRegex(ValueError, "showed 7.0 kWh before, it cannot show 6.0 kWh now"):
            self.book.add("power", parse("6 kWh"))


if __name__ == "__main__":
    unittest.main()
