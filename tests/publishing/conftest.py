"""A local Hub, and a folder with the files that a test module names `FILES`."""

import pytest

from tests.local_hub import LocalHub


@pytest.fixture
def hub():
    with LocalHub() as hub, hub.online():
        yield hub


@pytest.fixture
def folder(request, tmp_path):
    for name, content in request.module.FILES.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "folder"
