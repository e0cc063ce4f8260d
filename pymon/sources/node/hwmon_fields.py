"""The sensors of hwmon and their attributes, with the names, units and help texts that node_exporter gives them.

The attributes are those of Documentation/hwmon/sysfs-interface.rst and of the drivers for nct6775 and applesmc, which
have more. A driver's other attributes are not exported.
"""

from __future__ import annotations

from pymon.catalogue.model import SIGNED, Kind, Unit

_LIMITS = ("min", "max", "lcrit", "crit", "average", "lowest", "highest", "rated_min", "rated_max")
_ALARMS = ("alarm", "min_alarm", "max_alarm", "lcrit_alarm", "crit_alarm", "beep", "fault", "enable")

HWMON_FIELDS: dict[str, tuple[str, ...]] = {
    "cpu": ("vid",),
    "curr": ("input", *_LIMITS, *_ALARMS),
    "energy": ("input",),
    "fan": (
        "input",
        "min",
        "max",
        "div",
        "pulses",
        "target",
        "enable",
        "alarm",
        "min_alarm",
        "max_alarm",
        "fault",
        "beep",
        "manual",
        "output",
        "tolerance",
    ),
    "humidity": ("input", "min", "max", "min_hyst", "max_hyst", "rated_min", "rated_max", "alarm", "fault", "enable"),
    "in": ("input", *_LIMITS, *_ALARMS),
    "intrusion": ("alarm", "beep"),
    "power": (
        "input",
        "input_highest",
        "input_lowest",
        "average",
        "average_interval",
        "average_interval_min",
        "average_interval_max",
        "average_highest",
        "average_lowest",
        "average_min",
        "average_max",
        "accuracy",
        "cap",
        "cap_hyst",
        "cap_min",
        "cap_max",
        "min",
        "max",
        "lcrit",
        "crit",
        "rated_min",
        "rated_max",
        "alarm",
        "min_alarm",
        "max_alarm",
        "lcrit_alarm",
        "crit_alarm",
        "cap_alarm",
        "fault",
        "enable",
    ),
    "pwm": (
        "",
        "enable",
        "mode",
        "freq",
        "auto_channels_temp",
        *(f"auto_point{number}_{of}" for number in range(1, 9) for of in ("pwm", "temp", "temp_hyst")),
        "crit_temp_tolerance",
        "floor",
        "max",
        "start",
        "step_down_time",
        "step_output",
        "step_up_time",
        "stop_time",
        "target_temp",
        "temp_sel",
        "temp_tolerance",
        "tolerance",
        "weight_duty_base",
        "weight_duty_step",
        "weight_temp_sel",
        "weight_temp_step",
        "weight_temp_step_base",
        "weight_temp_step_tol",
    ),
    "temp": (
        "input",
        *_LIMITS,
        "max_hyst",
        "min_hyst",
        "crit_hyst",
        "lcrit_hyst",
        "emergency",
        "emergency_hyst",
        "emergency_alarm",
        "offset",
        "type",
        *_ALARMS,
    ),
}
"""Attributes by type of sensor. An empty one has no suffix, as pwm1."""

HWMON_CHIP_FIELDS = ("beep_enable", "update_interval", "vrm")
"""Attributes of a whole chip. node_exporter treats them as sensors without a number."""

HWMON_CHIP_METRICS = {
    "beep_enable": ("node_hwmon_beep_enabled", "Hardware beep enabled", SIGNED),
    "update_interval": (
        "node_hwmon_update_interval_seconds",
        "Hardware monitor update interval",
        Unit(decimals=3, signed=True),
    ),
    "vrm": ("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", SIGNED),
}

_MILLI = Unit(decimals=3, signed=True)
_MICRO = Unit(decimals=6, signed=True)


def hwmon_metric(sensor: str, field: str) -> tuple[str, Kind, str, Unit]:
    """Return name, type, help and unit of the family of an attribute."""
    name = f"node_hwmon_{sensor}" + (f"_{field}" if field not in {"", "input"} else "")
    if field in {"fault", "alarm"}:
        return name, Kind.GAUGE, f"Hardware sensor {field} status ({sensor})", SIGNED
    if field == "beep":
        return f"{name}_enabled", Kind.GAUGE, "Hardware monitor sensor has beeping enabled", SIGNED
    kind = Kind.GAUGE
    match sensor, field:
        case "in" | "cpu", _:
            suffix, help, unit = "_volts", "voltage", _MILLI
        case "temp", other if other != "type":
            suffix, help, unit = "_celsius", "temperature", _MILLI
        case "curr", _:
            suffix, help, unit = "_amps", "current", _MILLI
        case "energy", _:
            suffix, help, unit, kind = "_joule_total", "joules used so far", _MICRO, Kind.COUNTER
        case "power", "accuracy":
            return name, kind, "Hardware monitor power meter accuracy, as a ratio", _MICRO
        case "power", "average_interval" | "average_interval_min" | "average_interval_max":
            return f"{name}_seconds", kind, f"Hardware monitor power usage update interval ({field})", _MILLI
        case "power", _:
            suffix, help, unit = "_watt", "power usage in watts", _MICRO
        case "humidity", _:
            suffix, unit = "", _MICRO
            help = "humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)"
        case "fan", "input" | "min" | "max" | "target":
            suffix, help, unit = "_rpm", "fan revolutions per minute", SIGNED
        case _:
            return name, kind, f"Hardware monitor {sensor} element {field}", SIGNED
    return name + suffix, kind, f"Hardware monitor for {help} ({field})", unit
