"""Rendering: what goes in, what the child may reach, what comes out (T01, T02, T05, T06, T10, T12, T19, T28)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import targets

from reconciler import errors, model
from reconciler.targets.openshift import document
from reconciler.targets.openshift.desired import manifests, rendering

APP = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: api}
spec: {replicas: 1}
"""
PAYLOAD = {
    "base/kustomization.yaml": "resources: [app.yaml]\n",
    "base/app.yaml": APP,
    "prod/kustomization.yaml": "resources: [../base]\nnamespace: payments\npatches: [{path: replicas.yaml}]\n",
    "prod/replicas.yaml": APP.replace("replicas: 1", "replicas: 3"),
}


def kustomized(payload: dict[str, str] | None = None, **spec: Any) -> model.Desired:
    blobs = {path: text.encode() for path, text in {**PAYLOAD, **(payload or {})}.items()}
    around = {"namespaces": ["payments"], "render": "kustomize", "path": "prod", **spec}
    return targets.desired("openshift", blobs, {"kubeconfig": "env:K"}, spec=around)


def refused(said: str, **more: Any) -> model.Reason:
    (found,) = manifests.problems(kustomized({"prod/kustomization.yaml": said}, **more))
    assert found.fix
    return found


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary folders of this test alone, so that what stays behind is seen."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(rendering, "_KEPT", rendering._Kept())
    monkeypatch.setattr(manifests, "_KEPT", manifests._Kept())


def test_an_overlay_is_rendered_and_its_objects_are_told_where_they_come_from(tmp_path: Path) -> None:
    (found,) = manifests.read(kustomized())
    assert (found.key, found.source) == ("Deployment/payments/api", "targets/t/base/app.yaml:1")
    assert found.body["spec"] == {"replicas": 3}
    assert list(tmp_path.iterdir()) == [], "the folder is gone"


def test_what_a_generator_makes_is_told_to_be_its_kustomization() -> None:
    text = (
        PAYLOAD["prod/kustomization.yaml"]
        + "configMapGenerator: [{name: c, files: [x=settings.txt], literals: [a=b]}]\n"
    )
    found = manifests.read(kustomized({"prod/kustomization.yaml": text, "prod/settings.txt": "0777"}))
    made = next(m for m in found if m.key.startswith("ConfigMap/payments/c-"))
    assert made.source == "targets/t/prod/kustomization.yaml:1"
    assert made.body["data"] == {"a": "b", "x": "0777"}


def test_equal_input_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    real = rendering._run

    def counted(binary: Path, desired: model.Desired, options: document.Options, where: str) -> bytes:
        runs.append(where)
        return real(binary, desired, options, where)

    monkeypatch.setattr(rendering, "_run", counted)
    wanted = kustomized()
    once = rendering.render(wanted, document.options(wanted))
    assert rendering.render(wanted, document.options(wanted)) == once
    assert len(runs) == 1
    other = kustomized({"prod/replicas.yaml": APP.replace("replicas: 1", "replicas: 4")})
    assert b"replicas: 4" in rendering.render(other, document.options(other)).content
    assert len(runs) == 2


@pytest.mark.parametrize(
    "entry",
    [
        "https://evil.example/x.yaml",
        "http://169.254.169.254/latest/meta-data",
        "github.com/org/repo?ref=main",
        "git@github.com:org/repo.git",
        "ssh://git@evil.example/x",
        "git::https://evil.example/x",
        "file:///etc/passwd",
        "evil.example/repo",
        "s3::x",
    ],
)
def test_t12_no_base_is_fetched_from_anywhere(entry: str) -> None:
    for section in ("resources", "components", "bases", "crds", "configurations", "patchesStrategicMerge"):
        found = refused(f'{section}: ["{entry}"]\n')
        assert found.where == "targets/t/prod/kustomization.yaml:1"
        assert "fetched" in found.fix
    assert "fetched" in refused(f'patches: [{{path: "{entry}"}}]\n').fix


@pytest.mark.parametrize(
    "entry", ["../../other/manifests", "/etc", "../../../../etc/passwd", "..", "../prod/../..", "a\\0b", "%2e%2e/x"]
)
def test_t01_no_path_leaves_the_folder_of_the_target(entry: str) -> None:
    assert refused(f'resources: ["{entry}"]\n').where == "targets/t/prod/kustomization.yaml:1"
    assert refused(f'configMapGenerator: [{{name: a, files: ["k={entry}"]}}]\n').code == "render"
    assert refused(f'configMapGenerator: [{{name: a, envs: ["{entry}"]}}]\n').code == "render"


def test_t02_a_link_has_no_way_into_the_folder(tmp_path: Path) -> None:
    work = tmp_path / "work"
    rendering._write(work, {"a/b": b"1"}, "here")
    (work / "a" / "c").symlink_to("/etc/passwd")
    with pytest.raises(FileExistsError):
        os.open(work / "a" / "c", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    for name in ("../x", "/etc/x", "a/../x", "a\0", "a\\b"):
        with pytest.raises(errors.ConfigError, match="leads elsewhere"):
            rendering._write(tmp_path / f"{len(name)}{name[0] == 'a'}{name[-1] == 'b'}", {name: b""}, "here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("generators: [x.yaml]\n", "generators is refused"),
        ("transformers: [x.yaml]\n", "transformers is refused"),
        ("validators: [x.yaml]\n", "validators is refused"),
        ("helmCharts: [{name: a, repo: 'https://x'}]\n", "helmCharts is refused"),
        ("secretGenerator: [{name: a, literals: [p=hunter22]}]\n", "secretGenerator is refused"),
        ("openapi: {path: x.json}\n", "not known to be harmless"),
        ("inventory: {}\n", "not known to be harmless"),
    ],
)
def test_t06_no_plugin_runs_and_nothing_unknown_is_let_through(text: str, said: str) -> None:
    found = refused(text)
    assert said in found.message
    assert "hunter22" not in repr(found)


def test_inputs_pass_the_strict_loader_because_kustomize_reads_0777_as_511() -> None:
    (found,) = manifests.problems(kustomized({"base/app.yaml": APP + "  # mode\nmode: 0777\n"}))
    assert (found.code, found.where) == ("parse", "targets/t/base/app.yaml:6")
    (found,) = manifests.problems(kustomized({"prod/replicas.yaml": APP + "x: &a [1]\n"}))
    assert found.where == "targets/t/prod/replicas.yaml:5"
    patch = "patchesStrategicMerge:\n  - |\n    a: NO\n"
    assert refused(patch).code == "parse"


def test_what_comes_out_passes_the_same_checks() -> None:
    patch = "resources: [../base]\nnamespace: ledger\n"
    assert "not this target's" in refused(patch).message
    patch = "resources: [../base]\nnamespace: payments\ncommonAnnotations: {reconciler/owner: x}\n"
    assert "is reserved" in refused(patch).message


def test_a_reference_that_a_patch_puts_together_is_told_to_the_gate() -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: 'env:A'}\n"
    patch = """\
resources: [secret.yaml]
namespace: payments
patches:
  - target: {kind: Secret}
    patch: |
      - {op: replace, path: /stringData/p, value: "env:PROD_ROOT"}
"""
    wanted = kustomized({"prod/secret.yaml": secret, "prod/kustomization.yaml": patch})
    assert manifests.references(wanted) == (("env:PROD_ROOT", "targets/t/prod/secret.yaml:1"),)


def test_t28_nothing_that_comes_out_is_an_error() -> None:
    found = refused("namespace: payments\n")
    assert (found.code, found.where) == ("render", "targets/t/prod/kustomization.yaml")


def test_t28_a_refusal_of_kustomize_is_an_error_with_its_words_and_without_our_folder(tmp_path: Path) -> None:
    found = refused("resources: [../base]\npatches: [{target: {kind: X}, patch: 'not a patch'}]\n")
    assert found.code == "render"
    assert str(tmp_path) not in found.message


def test_a_missing_renderer_is_no_fault_of_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    wanted = kustomized(render="helm", path="chart", helm={"release": "a"})
    blobs = {"chart/Chart.yaml": b"apiVersion: v2\nname: a\nversion: 1.0.0\n"}
    with pytest.raises(errors.TransientError, match="helm is not installed"):
        manifests.problems(wanted.model_copy(update={"payload": blobs}))


# --- the child, seen from inside ----------------------------------------------------------------------------------------


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in on the PATH that says what it sees; each test writes what it does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("CANARY_OF_THE_DAEMON", "hunter22")
    return folder / "helm"


def does(helm: Path, text: str) -> None:
    rendering._KEPT = rendering._Kept()
    manifests._KEPT = manifests._Kept()
    helm.write_text(f"#!{os.path.realpath('/proc/self/exe')} -IS\nimport json, os, sys\n{textwrap.dedent(text)}")
    helm.chmod(0o700)


def charted(payload: dict[str, str] | None = None, **spec: Any) -> model.Desired:
    chart = {
        "chart/Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n",
        "chart/templates/a.yaml": "{{ nothing }}\n",
    }
    blobs = {path: text.encode() for path, text in {**chart, **(payload or {})}.items()}
    around = {"namespaces": ["payments"], "render": "helm", "path": "chart", "helm": {"release": "app"}, **spec}
    return targets.desired("openshift", blobs, {"kubeconfig": "env:K"}, spec=around)


SEES = """\
    seen = {
        "argv": sys.argv[1:],
        "environment": dict(os.environ),
        "files": sorted(os.listdir(".")),
        "modes": [oct(os.stat(p).st_mode) for p in ("..", ".", "chart/Chart.yaml")],
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "fds": os.listdir("/proc/self/fd"),
    }
    print(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"seen": json.dumps(seen)}}))
"""


def seen(wanted: model.Desired) -> dict[str, Any]:
    (found,) = manifests.read(wanted)
    data = found.body["data"]
    assert isinstance(data, dict)
    made: dict[str, Any] = json.loads(str(data["seen"]))
    return made


def test_t06_helm_gets_an_argument_vector_of_checked_parts(helm: Path) -> None:
    does(helm, SEES)
    found = seen(charted({"values/prod.yaml": "a: 1\n"}, helm={"release": "app", "values": ["values/prod.yaml"]}))
    assert found["argv"] == [
        "template",
        "app",
        "./chart",
        "--namespace=payments",
        "--include-crds",
        "--skip-tests",
        "--values=values/prod.yaml",
    ]


def test_t05_the_folder_is_random_private_and_gone(helm: Path, tmp_path: Path) -> None:
    does(helm, SEES)
    found = seen(charted())
    assert found["modes"] == ["0o40700", "0o40700", "0o100600"]
    assert rendering.PREFIX in found["environment"]["HOME"]
    assert list(tmp_path.glob(f"{rendering.PREFIX}*")) == []
    assert not Path(found["environment"]["HOME"]).exists()


def test_t05_what_a_crash_left_is_cleared_and_what_others_hold_is_not(tmp_path: Path) -> None:
    old = time.time() - 3600
    left, held, young = (tmp_path / f"{rendering.PREFIX}{name}" for name in ("left", "held", "young"))
    for folder in (left, held, young):
        folder.mkdir()
        (folder / "x").write_text("x")
        os.utime(folder, (time.time(), old if folder != young else time.time()))
    import fcntl

    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with rendering._private_folder() as mine:
        assert stat.S_IMODE(mine.stat().st_mode) == 0o700
        assert (left.exists(), held.exists(), young.exists()) == (False, True, True)
    os.close(lock)


def test_the_child_has_nothing_of_the_daemons_environment(helm: Path) -> None:
    does(helm, SEES)
    around = seen(charted())["environment"]
    assert "hunter22" not in json.dumps(around)
    assert around["HTTPS_PROXY"] == rendering.NOWHERE
    assert not Path(around["PATH"]).exists()


def test_t12_the_child_reaches_no_network(helm: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    reached: list[bool] = []

    def accept() -> None:
        server.settimeout(5)
        try:
            server.accept()[0].close()
            reached.append(True)
        except OSError:
            pass

    waiting = threading.Thread(target=accept)
    waiting.start()
    does(
        helm,
        f"""\
        import socket
        try:
            socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=2)
            print("reached")
        except OSError as exc:
            sys.exit(f"no way out: {{exc}}")
        """,
    )
    (found,) = manifests.problems(charted())
    server.close()
    waiting.join()
    if _has_own_network():
        assert "no way out" in found.message
        assert reached == []


def _has_own_network() -> bool:
    """Whether this kernel lets a process make its own network; where not, the checks of the inputs have to do."""
    tries = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x50000000) and 1)"
    return subprocess.run([sys.executable, "-c", tries], check=False).returncode == 0


def test_t19_a_renderer_that_never_ends_is_killed_with_all_it_started(
    helm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "DEADLINE_S", 1.0)
    mark = tmp_path / "child"
    does(
        helm, f"import time\nif os.fork() == 0:\n    open({str(mark)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    with pytest.raises(errors.TransientError, match="took longer"):
        manifests.problems(charted())
    deadline = time.monotonic() + 5
    while _runs(int(mark.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(int(mark.read_text()))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_t19_memory_and_output_end_at_a_limit(helm: Path) -> None:
    does(helm, "a = bytearray(2 << 30)\nprint('a: 1')\n")
    (found,) = manifests.problems(charted())
    assert "MemoryError" in found.message
    does(helm, "while True:\n    sys.stdout.write('a' * 65536)\n")
    (found,) = manifests.problems(charted())
    assert found.code == "render"
    does(helm, "sys.stdout.write('# a\\n' * (3 << 20))\n")
    (found,) = manifests.problems(charted())
    assert "bytes came out" in found.message


def test_t10_what_a_renderer_says_is_shown_without_escapes_and_not_without_end(helm: Path) -> None:
    does(helm, "sys.exit('\\x1b[2J\\x1b]0;owned\\x07no ' + 'a' * 100000)\n")
    (found,) = manifests.problems(charted())
    assert found.message.startswith("no aaa")
    assert len(found.message) < 3000


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"chart/Chart.yaml": "dependencies: [{name: redis, repository: 'https://charts.example'}]\n"}, "not vendored"),
        ({"chart/charts/redis-1.0.0.tgz": ""}, "an archive"),
        ({"chart/values.yaml": "a: NO\n"}, "read differently"),
        ({"chart/charts/redis/values.yaml": "a: &x 1\n"}, "anchors"),
    ],
)
def test_t03_a_chart_is_vendored_and_readable(payload: dict[str, str], said: str) -> None:
    (found,) = manifests.problems(charted(payload))
    assert said in found.message
    assert (
        "values/x.yaml is not in"
        in manifests.problems(charted(helm={"release": "a", "values": ["values/x.yaml"]}))[0].message
    )


def test_helms_hooks_and_objects_without_names_are_refused(helm: Path) -> None:
    does(
        helm,
        "print('apiVersion: batch/v1\\nkind: Job\\nmetadata: {name: a, annotations: {helm.sh/hook: pre-install}}')\n",
    )
    assert "a helm hook" in manifests.problems(charted())[0].message
    does(helm, "print('apiVersion: batch/v1\\nkind: Job\\nmetadata: {}\\n# other')\n")
    assert "no name" in manifests.problems(charted())[0].message


# --- a chart, by helm itself where it is installed ----------------------------------------------------------------------

STAND_IN = """\
    # Stands in for helm where there is none: `.Release` and `.Values.name` of one template, and nothing else of the language.
    command, release, path, *options = sys.argv[1:]
    assert (command, path) == ("template", "./chart"), sys.argv
    said = dict(each.lstrip("-").partition("=")[::2] for each in options)
    with open(said["values"]) as file:
        key, _, value = file.read().strip().partition(": ")
    assert key == "colour"
    with open("chart/templates/conf.yaml") as file:
        text = file.read()
    for name, found in ((".Release.Name", release), (".Release.Namespace", said["namespace"]), (".Values.colour", value)):
        text = text.replace("{{ " + name + " }}", found)
    sys.stdout.write(text)
"""
REAL_HELM = shutil.which("helm")


def test_a_chart_is_rendered_by_helm_or_by_what_stands_in_for_it(helm: Path) -> None:
    """The same files and the same result, whichever it is; the stand-in is ours, and named so."""
    if REAL_HELM:
        rendering._KEPT, manifests._KEPT = rendering._Kept(), manifests._Kept()
        helm.symlink_to(REAL_HELM)
    else:
        does(helm, STAND_IN)
    template = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-conf\n"
        "  namespace: {{ .Release.Namespace }}\ndata:\n  colour: {{ .Values.colour }}\n"
    )
    files = {"chart/templates/a.yaml": "", "chart/templates/conf.yaml": template, "values/prod.yaml": "colour: green\n"}
    (found,) = manifests.read(charted(files, helm={"release": "app", "values": ["values/prod.yaml"]}))
    assert found.key == "ConfigMap/payments/app-conf"
    assert found.body["data"] == {"colour": "green"}
    assert found.source.startswith("targets/t/chart/Chart.yaml")
