"""What interpreters run."""

from __future__ import annotations

import pytest

from probes.identity.programs import script_of


@pytest.mark.parametrize(
    ("executable", "line", "name"),
    [
        ("nginx", "nginx -g daemon off;", ""),
        ("redis-server", "redis-server *:6379", ""),
        ("python3.11", "python3 app.py", "app.py"),
        ("python3.11", "python3 -u -X dev -W ignore /srv/app.py --port 1", "app.py"),
        ("python3.11", "/usr/bin/python3 -m http.server 80", "http.server"),
        ("python3.11", "python3 -mhttp.server", "http.server"),
        ("python3.11", "python3 -c print(1)", ""),
        ("python3.11", "python3", ""),
        ("python3.11", "python3 -", ""),
        ("python3.11", "python3 -- -odd.py", "-odd.py"),
        ("python3.11", "/venv/bin/python /venv/bin/gunicorn app:app", "gunicorn"),
        ("pypy3.10", "pypy3 a.py", "a.py"),
        ("node", "node --require ./trace.js --max-old-space-size=100 server.js", "server.js"),
        ("node", "node -e 1", ""),
        ("bun", "bun run index.ts", "index.ts"),
        ("bash", "bash /opt/run.sh", "run.sh"),
        ("bash", "bash -o pipefail /opt/run.sh", "run.sh"),
        ("dash", "sh -c curl http://a", ""),
        ("bash", "-bash", ""),
        ("perl", "perl -w /usr/bin/starman", "starman"),
        ("ruby3.1", "ruby3.1 bin/rails server", "rails"),
        ("php8.2", "php8.2 -d display_errors=0 artisan serve", "artisan"),
        ("java", "java -Xmx1g -jar /srv/x.jar --a", "x.jar"),
        ("java", "java -cp a:b -Dx=y org.apache.kafka.Kafka server.properties", "Kafka"),
        ("java", "java --module-path m -m my.module/my.pkg.Main", "Main"),
        ("java", "java -m my.module", "my.module"),
        ("java", "java @args src/Tool.java", "Tool.java"),
        ("java", "java -version", ""),
        ("dotnet", "dotnet /app/Shop.Api.dll", "Shop.Api.dll"),
        ("dotnet", "dotnet exec --depsfile d Shop.dll", "Shop.dll"),
        ("beam.smp", "beam.smp -- -root /r -sname rabbit@host -boot b", "rabbit"),
        ("beam.smp", "beam.smp -- -root /r", ""),
    ],
)
def test_an_interpreter_is_called_by_what_it_runs(executable: str, line: str, name: str) -> None:
    assert script_of(executable, line.split()) == name
