"""Optional dependencies: imported, or missing with the command that installs them."""

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.optional import import_optional


def test_an_installed_module_is_imported():
    assert import_optional("json.decoder", "reports").JSONDecoder


def test_a_missing_package_is_an_error_that_names_the_extra():
    with pytest.raises(UserError, match=r"no_such_package is not .* 'ditfuse-jax\[reports\]'$"):
        import_optional("no_such_package.part", "reports")


def test_a_package_that_lacks_a_dependency_of_its_own_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        import_optional("half_installed", "reports")
