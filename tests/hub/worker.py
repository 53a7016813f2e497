"""A client of the Hub in a process of its own: huggingface_hub reads where the Hub is once, when it is imported.

One line of JSON in, one out: `{"argv": […]}` runs the command line, `{"code": "…"}` runs Python whose `result` comes
back. `token` is the token of that call.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, it is ignored
    time.sleep = lambda seconds: None  # huggingface_hub tries a failed upload again and again, with pauses
    import tiny  # noqa: F401  lets torchvision be imported

    from hf_zspa import cli

    for line in sys.stdin:
        asked = json.loads(line)
        os.environ.pop("HF_TOKEN", None)
        if asked["token"]:
            os.environ["HF_TOKEN"] = asked["token"]
        out, err, names = io.StringIO(), io.StringIO(), {}
        status = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                if "argv" in asked:
                    from hf_zspa.cli import shared

                    shared.console.file = out
                    sys.argv = ["hf-zspa", *asked["argv"]]
                    cli.main()
                else:
                    exec(asked["code"], names)
            except SystemExit as stop:
                status = stop.code or 0
            except BaseException:
                status = 70
                traceback.print_exc()
        answer = {"status": status, "out": out.getvalue(), "err": err.getvalue(), "result": names.get("result")}
        print(json.dumps(answer), file=answers, flush=True)


main()
