"""The command `prepare`: values of options that cannot be read."""

import pytest

from ditfuse_jax.cli import main


def test_a_crop_of_one_number_is_one_line(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "photos", "-o", "packed", "--crop", "256"])
    error = capsys.readouterr().err
    assert "--crop 256: give height and width, e.g. 256,256" in error and error.count("\n") == 1
