"""Pages to listen to separated songs, and pictures of them.

`find_stems` and `stems_at` find the stems of songs on this disk. `write_page` writes a page that plays them, and
`write_index` one that links to the pages of a folder. `inline_page` is for notebooks. `made` says what a page that is
there was made of, and `remove_misleading` removes pages of stems that have changed.
"""

from waveunet_cli.listen.page import Page, inline_page, write_index, write_page
from waveunet_cli.listen.stale import made, remove_misleading
from waveunet_cli.listen.stemset import StemSet, find_stems, stems_at

__all__ = [
    "Page",
    "StemSet",
    "find_stems",
    "inline_page",
    "made",
    "remove_misleading",
    "stems_at",
    "write_index",
    "write_page",
]
