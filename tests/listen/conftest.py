from collections.abc import Iterator

import pytest

from browser import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.close()
