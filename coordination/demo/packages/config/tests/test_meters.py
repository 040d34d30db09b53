import tempfile
import unittest
from pathlib import Path

from meter_config import Meter, load
from meter_units import Quantity, Unit


class LoadTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "meters.toml")

    def test_reads_each_table_as_a_meter(self):
        self.file.write_text(
            '[power]\nunit = "kWh"\nprice = 0.31\nbudget = "250 kWh"\n\n[water]\nunit = "m3"\n'
        )
        self.assertEqual(
            load(self.file),
            {
                "power": Meter("power", Unit.KWH, 0.31, Quantity(250.0, Unit.KWH)),
                "water": Meter("water", Unit.M3),
            },
        )

    def test_a_bare_budget_is_in_the_unit_of_its_meter(self):
        self.file.write_text('[water]\nunit = "m3"\nbudget = 12\n')
        self.assertEqual(load(self.file)["water"].budget, Quantity(12.0, Unit.M3))

    def test_refuses_a_budget_in_another_unit(self):
        self.file.write_text('[water]\nunit = "m3"\nbudget = "12 kWh"\n')
        with self.assertRaisesRegex(ValueError, "water: counts m3, but its budget is 12.0 kWh"):
            load(self.file)


class CostTest(unittest.TestCase):
    def test_is_the_amount_times_the_price(self):
        self.assertEqual(Meter("power", Unit.KWH, 0.31).cost(Quantity(100, Unit.KWH)), 31.0)

    def test_is_unknown_without_a_price(self):
        self.assertIsNone(Meter("power", Unit.KWH).cost(Quantity(100, Unit.KWH)))


if __name__ == "__main__":
    unittest.main()
