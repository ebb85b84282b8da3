"""Text from files of strangers, made harmless for terminals, spreadsheets and Markdown."""

import unicodedata


def clean(text: str, limit: int | None = None) -> str:
    r"""Make control, bidirectional and line-breaking characters visible as `\x1b`; cut at `limit`.

    Terminals, spreadsheets and Markdown all act on some of them.
    """
    text = ''.join(
        c.encode('unicode_escape').decode()
        if unicodedata.category(c) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')
        else c
        for c in text
    )
    return text if limit is None or len(text) <= limit else text[: limit - 1] + '…'
