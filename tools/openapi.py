"""The service's OpenAPI document, written to docs/assets/openapi.json; a test fails when it is stale."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.doors.http.app import bare_app

PLACE = Path(__file__).resolve().parent.parent / "docs" / "assets" / "openapi.json"


def main() -> None:
    """The document is written."""
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(json.dumps(bare_app().openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
