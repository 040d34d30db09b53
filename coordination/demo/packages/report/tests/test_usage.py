import unittest
from datetime import datetime

from meter_report import Period, render, usage
from meter_units import parse

SHOWN = [
    (datetime(2026, 1, 31), parse("100 kWh")),
    (datetime(2026, 2, 10), parse("130 kWh")),
    (datetime(2026, 2, 28), parse("190.5 kWh")),
    (datetime(2026, 3, 31), parse("1,290.5 kWh")),
]


class UsageTest(unittest.TestCase):
    def test_is_the_difference_between_readings_summed_up_by_month(self):
        self.assertEqual(usage(SHOWN), {"2026-02": parse("90.5 kWh"), "2026-03": parse("1100 kWh")})

    def test_does_not_mind_the_order_of_the_readings(self):
        self.assertEqual(usage(SHOWN[::-1]), usage(SHOWN))

    def test_can_be_summed_up_by_year(self):
        self.assertEqual(usage(SHOWN, Period.YEAR), {"2026": parse("1190.5 kWh")})

    def test_needs_two_readings(self):
        self.assertEqual(usage(SHOWN[:1]), {})


class RenderTest(unittest.TestCase):
    def test_shows_amounts_with_their_unit(self):
        self.assertEqual(
            render(usage(SHOWN)).splitlines(),
            [
                "period      used  unit",
                "-------  -------  ----",
                "2026-02     90.5  kWh",
                "2026-03  1,100.0  kWh",
            ],
        )

    def test_shows_costs_where_a_price_is_known(self):
        self.assertEqual(render(usage(SHOWN), price=0.5).splitlines()[-1], "2026-03  1,100.0  kWh   550.00")


if __name__ == "__main__":
    unittest.main()
