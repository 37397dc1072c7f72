"""Starts a Config node: `python -m services.config`."""

from mesh.service import Service, main
from mesh.settings import load
from services.config.app import ConfigApp
from services.config.settings import ConfigSettings


async def build(service: Service) -> None:
    """Settings to parts."""
    ConfigApp(service, load(ConfigSettings, "config"))


if __name__ == "__main__":
    main(build, name="config")
