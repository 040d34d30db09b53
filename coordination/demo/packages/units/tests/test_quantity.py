import unittest

from meter_units import Quantity, Unit, parse


class ParseTest(unittest.TestCase):
    def test_reads_an_amount_and_its_unit(self):
        self.assertEqual(parse("1,204.5 kWh"), Quantity(1204.5, Unit.KWH))

    def test_takes_the_default_where_the_unit_is_left_out(self):
        self.assertEqual(parse("12", default=Unit.M3), Quantity(12.0, Unit.M3))

    def test_refuses_an_amount_without_any_unit(self):
        with self.assertRaisesRegex(ValueError, "has no unit, write one of kWh, m3, l"):
            parse("12")

    def test_refuses_a_unit_that_no_meter_has(self):
        with self.assertRaises(ValueError):
            parse("12 miles")


class QuantityTest(unittest.TestCase):
    def test_reads_as_people_write_it(self):
        self.assertEqual(str(Quantity(1204.54, Unit.KWH)), "1,204.5 kWh")

    def test_adds_and_subtracts_within_a_unit(self):
        self.assertEqual(parse("3 l") + parse("2 l") - parse("1 l"), parse("4 l"))

    def test_never_mixes_units(self):
        with self.assertRaisesRegex(ValueError, "not of one unit"):
            parse("3 l") + parse("2 kWh")


if __name__ == "__main__":
    unittest.main()
