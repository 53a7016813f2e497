"""What goes wrong between here and the Hub, as one line that says what to do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

# huggingface_hub has another HTTP library in each of its major versions: what it raises for an answer that is an error,
# and for a lost connection.
_LIBRARIES = {sys.modules[kind.__module__.split(".")[0]] for kind in HfHubHTTPError.__mro__}
_NAMES = ("TransportError", "RequestException")
FAILURES: tuple[type[Exception], ...] = (
    HfHubHTTPError,
    ConnectionError,
    TimeoutError,
    *(getattr(library, name) for library in _LIBRARIES for name in _NAMES if hasattr(library, name)),
)
_AGAIN = "Nothing was published. Run the same command again: what has arrived is not sent twice"


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns what huggingface_hub raises in a push to `repository` into a `ValueError`."""
    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no Hub id, it must be like org/name: {_line(error)}") from error
    except OfflineModeIsEnabled as error:
        raise ValueError("HF_HUB_OFFLINE is set: unset it to publish") from error
    except FAILURES as error:
        raise ValueError(_explanation(repository, error)) from error
    except RuntimeError as error:  # an upload that failed; the cause says why
        if not isinstance(error.__cause__, FAILURES):
            raise
        raise ValueError(_explanation(repository, error.__cause__)) from error


def _explanation(repository: str, error: BaseException) -> str:
    response = getattr(error, "response", None)
    if response is None:
        return f"the connection to the Hub broke: {_line(error)}. {_AGAIN}"
    status = response.status_code
    said = _line(getattr(error, "server_message", None) or error)
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return f"the Hub has no repository {repository}, or the token may not see it"
    if status == 401:
        return "the Hub does not accept the token: log in with hf auth login, with a token that may write"
    if status == 403:
        return f"the token has no right to write to {repository}: use one that has, or a repository of your own"
    if status in (409, 412):
        return f"{repository} has changed meanwhile ({said}): run the same command again"
    if status < 500:
        return f"the Hub refused: {said}"
    return f"the Hub answered {status}: {said}. {_AGAIN}"


def _line(error: object) -> str:
    return " ".join(str(error).split())
