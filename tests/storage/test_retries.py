"""How long requests are repeated."""

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.storage import retries
from ditfuse_jax.storage.retries import _retry_seconds


def test_a_limit_that_is_no_number_of_seconds_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("DITFUSE_STORAGE_RETRY_SECONDS", "30")
    assert _retry_seconds() == 30
    for text in ("10m", "-1", "nan", ""):
        monkeypatch.setenv("DITFUSE_STORAGE_RETRY_SECONDS", text)
        with pytest.raises(UserError, match=f"DITFUSE_STORAGE_RETRY_SECONDS={text}: give a number"):
            _retry_seconds()


def test_an_outage_is_one_line_for_each_bucket(monkeypatch, capsys):
    monkeypatch.setattr(retries, "_last_reports", {})
    for where in ("gs://a/data/1", "gs://b", "gs://a", "s3://a/2", "gs://a/data/2", "gs://b/3"):
        retries.report(where, "no answer")
    lines = [f"storage: {where}: no answer" for where in ("gs://a/data/1", "gs://b", "s3://a/2")]
    assert capsys.readouterr().err.splitlines() == lines
