"""`python -m hf_zspa` is `hf-zspa`."""

from .cli import main

main()
