"""A page in the browser: a picture, a question, and the answers from all visual tokens and from those that are kept."""
