"""The meters of a household, from a TOML file."""

from meter_config.meters import Meter, load

__all__ = ["Meter", "load"]
