"""What DuckDB and the system say, as far as a person can make use of it."""

import json
import re

# A write that fails in the background comes wrapped: ... {"exception_type":"IO","exception_message":"Could not ..."}
_WRAPPED = re.compile(r'"exception_message":("(?:[^"\\]|\\.)*")')


def reason_of(error: BaseException) -> str:
    """Why it failed, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = str(error)
    if wrapped := _WRAPPED.search(message):
        message = json.loads(wrapped[1])
    return message.partition("\n")[0]
