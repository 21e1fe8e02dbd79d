"""The service's log lines as JSON, one object a line, each with the id of the request on whose behalf it was written."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from bloomery.doors.http.context import request_id_now


class JsonLines(logging.Formatter):
    """An object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = request_id_now()
        if request_id is not None:
            line["request_id"] = request_id
        call = getattr(record, "call", None)
        if call is not None:
            line |= call
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(level: int) -> None:
    """Everything that Bloomery and the server under it log is JSON on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("bloomery", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
