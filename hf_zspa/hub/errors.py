"""What goes wrong between here and the Hub, as one line that says what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import (
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..checkpoints.resolve import FAILURES
from . import Interrupted

AGAIN = "Run the same command again: what has arrived is not sent twice"


@contextmanager
def hub_errors(
    repository: str, revision: str | None = None, left: Callable[[bool], str] = lambda refused: ""
) -> Iterator[None]:
    """Turns what huggingface_hub raises in a push to `repository` into a `ValueError`, and Ctrl-C into `Interrupted`.

    Args:
        revision: the branch that was asked for.
        left: is called where the push fails, and told whether the Hub refused, so that what was asked last was
            certainly not done. It returns what the push has left on the Hub and what to do about it, or nothing where
            it had not begun.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"interrupted. {left(False) or f'Nothing was published. {AGAIN}'}") from error
    except OfflineModeIsEnabled as error:
        raise ValueError("HF_HUB_OFFLINE is set: unset it to publish") from error
    except FAILURES as error:
        raise ValueError(_explanation(repository, revision, error, left)) from error
    except RuntimeError as error:  # an upload that failed; the cause says why
        if not isinstance(error.__cause__, FAILURES):
            raise
        raise ValueError(_explanation(repository, revision, error.__cause__, left)) from error


def said(error: BaseException) -> str:
    """The Hub's own words in an error, on one line."""
    return _line(getattr(error, "server_message", None) or error)


def _explanation(repository: str, revision: str | None, error: BaseException, left: Callable[[bool], str]) -> str:
    response = getattr(error, "response", None)
    if response is None:
        what = f"the Hub ({ENDPOINT}) is out of reach, or the connection to it broke: {_line(error)}"
    elif response.status_code >= 500:
        what = f"the Hub answered {response.status_code}: {said(error)}"
    else:
        so_far = left(True)
        return _refusal(repository, revision, error, response.status_code) + (f". {so_far}" if so_far else "")
    return f"{what.rstrip('.')}. {left(False) or f'Nothing was published. {AGAIN}'}"


def _refusal(repository: str, revision: str | None, error: BaseException, status: int) -> str:
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repository} has no branch {revision or 'main'}: --revision must name a branch, not a tag or a commit, "
            "and one that is missing is made"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hub has no repository {repository}, or the token may not see it"
    if status == 401:
        return "the Hub does not accept the token: log in with hf auth login, with a token that may write"
    if status == 403:
        return f"the token has no right to write to {repository}: use one that has, or a repository of your own"
    if status == 409:
        return (
            f"somebody else is changing {repository}, or it has what the token may not see ({said(error)}): run the "
            "same command again"
        )
    if status == 412:
        return f"{repository} has changed meanwhile ({said(error)}): run the same command again"
    return f"the Hub refused ({status}): {said(error).rstrip('.')}"


def _line(error: object) -> str:
    return " ".join(str(error).split())
