"""Where the server listens, and what its options may be."""

import socket

import pytest

from ditfuse_jax.cli import main
from ditfuse_jax.errors import UserError
from ditfuse_jax.serve.limits import Limits
from ditfuse_jax.serve.run import bound, url_of


def test_an_error_of_the_server_is_not_one_of_its_address():
    with pytest.raises(FileNotFoundError, match="weights"), bound("127.0.0.1", 0) as listener:
        raise FileNotFoundError("weights")
    assert listener.fileno() == -1


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "no such host", "a..b"])
def test_a_bad_host_name_is_one_line(host):
    with pytest.raises(UserError, match="cannot listen at") as raised, bound(host, 0):
        pass
    assert "\n" not in str(raised.value)


def test_the_printed_address_can_be_opened():
    name = socket.gethostname()
    assert url_of("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert url_of("::1", 80) == "http://[::1]:80"
    assert url_of("0.0.0.0", 80) == url_of("::", 80) == f"http://{name}:80"


def test_a_port_in_use_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = f"cannot listen at 127.0.0.1:{port}"
        with pytest.raises(UserError, match=said), bound("127.0.0.1", port):
            pass


def test_a_second_server_that_starts_while_the_first_loads_its_model_is_refused():
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        said = f"cannot listen at 127.0.0.1:{port}"
        with pytest.raises(UserError, match=said), bound("127.0.0.1", port):
            pass


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_batch_size_below_one_is_refused_before_the_model_is_loaded(size, capsys):
    assert main(["serve", "--batch-size", size]) == 2
    assert f"batch_size must be at least 1, not {size}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "app"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timeout", "inf"),
        ("--timeout", "nan"),
        ("--max-megapixels", "nan"),
        ("--max-megapixels", "inf"),
        ("--max-megapixels", "0"),
        ("--queue", "0"),
    ],
)
def test_a_limit_that_is_no_number_above_zero_is_one_line(command, option, value, capsys):
    assert main([command, option, value]) == 2
    assert "must be a number above 0" in capsys.readouterr().err


def test_whole_limits_may_be_large():
    assert Limits(request_bytes=10**400).request_bytes == 10**400
