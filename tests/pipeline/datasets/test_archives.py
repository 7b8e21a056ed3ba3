"""Archives that cannot be unpacked are one line, which says what to do."""

import tarfile
import zipfile

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.pipeline.datasets.archives import unpack


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{k * k} " for k in range(9999)))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_damaged_archive_is_to_be_downloaded_again(text, tmp_path, suffix):
    archive = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.write(text, text.name)
    else:
        with tarfile.open(archive, f"w:{suffix.rpartition('.')[2]}") as packed:
            packed.add(text, text.name)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = b"\xff" * 40
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"is damaged or incomplete .* download it again") as caught:
        unpack(archive)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_an_encrypted_zip_is_to_be_unpacked_by_its_owner(text, tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(text, text.name)
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flag of encryption: of the file, and in the directory at the end
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(UserError, match=r"encrypted.*unpack it yourself into .*a$"):
        unpack(archive)
