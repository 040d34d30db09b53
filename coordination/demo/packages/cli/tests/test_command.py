import contextlib
import io
import tempfile
import unittest
from datetime import datetime, timezone
from pathlib import Path

from meter_cli import run


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "meters.toml").write_text('[power]\nunit = "kWh"\nprice = 0.5\n')

    def meter(self, *words, now=None):
        """Run the command; returns its exit code and all that it printed."""
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            code = run(list(words), self.folder, now)
        return code, out.getvalue().rstrip()

    def test_what_is_added_is_reported(self):
        for month, shown in ((1, "100"), (2, "190.5 kWh")):
            self.assertEqual(
                self.meter("add", "power", shown, now=datetime(2026, month, 28, tzinfo=timezone.utc))[0], 0
            )
        code, printed = self.meter("report", "power")
        self.assertEqual(code, 0)
        self.assertEqual(printed.splitlines()[-1], "2026-02  90.5  kWh   45.25")

    def test_says_what_it_wrote_down(self):
        now = datetime(2026, 1, 28, 9, 5, tzinfo=timezone.utc)
        self.assertEqual(
            self.meter("add", "power", "1,204.5", now=now), (0, "2026-01-28 09:05  power  1,204.5 kWh")
        )

    def test_a_reading_that_counts_backwards_is_an_error(self):
        self.meter("add", "power", "100")
        code, printed = self.meter("add", "power", "99")
        self.assertEqual((code, printed), (1, "power showed 100.0 kWh before, it cannot show 99.0 kWh now"))

    def test_a_meter_that_is_not_there_is_an_error(self):
        code, printed = self.meter("report", "gas")
        self.assertEqual((code, printed), (1, "there is no meter 'gas', name one of: power"))


if __name__ == "__main__":
    unittest.main()
