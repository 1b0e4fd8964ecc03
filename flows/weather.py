"""A tool of flows/tools.yaml: it only looks into a table, where yours may ask a service."""

WEATHER = {"Oslo": "4 degrees and rain", "Rome": "21 degrees and sun"}


def get_weather(city: str) -> str:
    """Return the weather of `city` in a few words."""
    return WEATHER.get(city, f"nothing is known about {city}")
