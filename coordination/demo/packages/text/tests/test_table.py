import unittest

from meter_text import Align, shorten, table


class TableTest(unittest.TestCase):
    def test_a_column_is_as_wide_as_its_widest_cell(self):
        rows = [("meter", "used"), ("gas", 7), ("electricity", 1204)]
        self.assertEqual(
            table(rows, (Align.LEFT, Align.RIGHT)).splitlines(),
            [
                "meter        used",
                "-----------  ----",
                "gas             7",
                "electricity  1204",
            ],
        )

    def test_no_cell_is_wider_than_asked(self):
        lines = table([("meter",), ("electricity",)], (Align.LEFT,), width=6).splitlines()
        self.assertEqual(lines[-1], "elect.")


class ShortenTest(unittest.TestCase):
    def test_leaves_alone_what_fits(self):
        self.assertEqual(shorten("water", 5), "water")
        self.assertEqual(shorten("water"), "water")

    def test_shows_the_cut(self):
        self.assertEqual(shorten("electricity", 8), "electri.")


class AlignTest(unittest.TestCase):
    def test_is_what_the_format_language_takes(self):
        self.assertEqual([align.value for align in Align], ["<", ">"])


if __name__ == "__main__":
    unittest.main()
