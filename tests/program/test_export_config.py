"""What `[metrics]` and `[otlp]` may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace import config
from tailrace.cli import main
from tailrace.config_export import export_settings
from tailrace.errors import ConfigError
from tailrace.export.settings import ExportSettings

FULL = """\
[metrics]
listen = "0.0.0.0:9470"
names = "opentelemetry"
max_pairs = 50
[otlp]
endpoint = "https://otel.example.com/path"
interval = "30s"
timeout = "5s"
headers = { x-scope = "team" }
headers_file = "otlp.headers"
ca_file = "/etc/ssl/ca.pem"
attributes = { "deployment.environment.name" = "prod" }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "otlp.headers").write_text("authorization: Bearer s3cret\n\nx-two: a:b\n")
    return tmp_path / "tailrace.toml"


def wanted(of: config.Config) -> ExportSettings:
    return export_settings(of.metrics, of.otlp)


def test_all_of_it(file: Path) -> None:
    file.write_text(FULL)
    found = wanted(config.read(file))
    assert found
    assert found.listen == ("0.0.0.0", 9470)
    assert (found.names, found.max_pairs) == ("opentelemetry", 50)
    otlp = found.otlp
    assert otlp is not None
    assert otlp.endpoint == "https://otel.example.com/path"
    assert (otlp.interval_s, otlp.timeout_s) == (30.0, 5.0)
    assert otlp.headers == {"x-scope": "team", "authorization": "Bearer s3cret", "x-two": "a:b"}
    assert otlp.ca_file == Path("/etc/ssl/ca.pem")
    assert otlp.attributes == {"deployment.environment.name": "prod"}


def test_nothing_is_exported_unless_asked_for() -> None:
    assert not wanted(config.Config())


@pytest.mark.parametrize(
    ("text", "listen"),
    [("[::1]:80", ("::1", 80)), ("localhost:1", ("localhost", 1)), ("off", None)],
)
def test_addresses(file: Path, text: str, listen: tuple[str, int] | None) -> None:
    file.write_text(f'[metrics]\nlisten = "{text}"\n')
    assert wanted(config.read(file)).listen == listen


MISTAKES = {
    "no port": (
        '[metrics]\nlisten = "127.0.0.1"\n',
        '{file}:2: key `listen` in [metrics]: "off", or an address and port like '
        "\"127.0.0.1:9470\", not '127.0.0.1'",
    ),
    "a port that is none": ('[metrics]\nlisten = "127.0.0.1:70000"\n', "{file}:2: key `listen`"),
    "names": ('[metrics]\nnames = "prometheus"\n', "{file}:2: key `names` in [metrics]: "),
    "no URL": (
        '[otlp]\nendpoint = "collector:4318"\n',
        '{file}:2: key `endpoint` in [otlp]: "off", or a URL like "http://127.0.0.1:4318"',
    ),
    "a password": (
        '[otlp]\nendpoint = "https://user:word@example.com"\n',
        "what is secret goes into headers_file",
    ),
    "too often": (
        '[otlp]\nendpoint = "http://x"\ninterval = "10ms"\n',
        "{file}:3: key `interval` in [otlp]: '10ms' is not from 1s to 1h",
    ),
    "header": (
        '[otlp]\nendpoint = "http://x"\nheaders = {{ "a b" = "c" }}\n',
        "'a b' is no name of a header",
    ),
    "nowhere": (
        '[otlp]\nheaders = {{ a = "c" }}\n',
        "name an endpoint, or leave the rest out",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_said_with_their_place(file: Path, name: str) -> None:
    text, message = MISTAKES[name]
    file.write_text(text.replace("{{", "{").replace("}}", "}"))
    with pytest.raises(ConfigError) as caught:
        config.read(file)
    said = str(caught.value)
    assert message.format(file=file) in said
    assert "word" not in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {file}: No such file"),
        ("", "{file} is empty"),
        ("s3cret\n", "{file}, line 1 is no header"),
        ("a: b\ns3cret key: x\n", "{file}, line 2 is no header"),
        ("ключ: s3cret\n", "cannot read {file}: not ASCII"),
    ],
)
def test_files_of_headers_that_are_wrong(file: Path, content: str | None, message: str) -> None:
    headers = file.with_name("otlp.headers")
    headers.unlink()
    if content is not None:
        headers.write_text(content)
    file.write_text(FULL)
    with pytest.raises(ConfigError) as caught:
        config.check_files(config.read(file))
    assert message.format(file=headers) in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_it_is_shown_without_what_is_secret(
    file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file.write_text(FULL)
    assert main(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "s3cret" not in shown
    assert "team" not in shown
    again = tmp_path / "again.toml"
    again.write_text(shown)
    read, before = config.read(again), config.read(file)
    assert read.metrics == before.metrics
    assert read.otlp == before.otlp.model_copy(update={"headers": {"x-scope": "…"}})
    assert main(["config", "show"]) == 0
    again.write_text(capsys.readouterr().out)
    assert config.read(again).otlp == config.Config().otlp
