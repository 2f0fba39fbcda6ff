"""Connections that break and servers that refuse, before and after a write took effect: never done twice, never taken for absence."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import faulty_proxy, kube_certificates, openshift
from support import kube as planes
from support.faulty_proxy import Fault

from reconciler import errors, model
from reconciler.targets.openshift.connection import cache


@pytest.fixture
def proxy(kube: planes.ControlPlane) -> Iterator[faulty_proxy.Proxy]:
    with faulty_proxy.in_front_of(kube) as made:
        yield made


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def daemon(proxy: faulty_proxy.Proxy, tmp_path: Path, woken: list[str]) -> Iterator[openshift.Daemon]:
    around = openshift.facilities(tmp_path, proxy.kubeconfig, installation=planes.unique("i"), wake=woken.append)
    made = openshift.Daemon(around)
    yield made
    made.driver.close()


@pytest.fixture
def distrusting(kube: planes.ControlPlane, tmp_path: Path) -> str:
    """A kubeconfig that trusts another authority than the server's."""
    folder = tmp_path / "other"
    folder.mkdir()
    kube_certificates.Authority(folder)
    other = base64.b64encode((folder / "ca.crt").read_bytes()).decode()
    mine = base64.b64encode(kube.ca_path.read_bytes()).decode()
    return kube.kubeconfig("deployer").replace(mine, other)


def one(namespace: str, text: str = "one") -> model.Desired:
    return openshift.desired(namespace, openshift.config_map(namespace, "a", {"text": text}))


def is_write(method: str, _path: str) -> bool:
    return method != "GET"


def place(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/a"


def writes(proxy: faulty_proxy.Proxy) -> int:
    return sum(method != "GET" for method, _ in proxy.seen)


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_that_breaks_over_a_write_leaves_its_outcome_to_the_next_look(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy, *, after: bool
) -> None:
    wanted = one(kube_namespace)
    proxy.spoil(Fault(is_write, after=after))
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.UNKNOWN
    assert writes(proxy) == 1, "nobody sends it again without looking"
    look = daemon.look(wanted)
    assert [bool(seen.steps) for seen in look.observations] == [not after]
    if after:
        (seen,) = look.observations
        assert seen.identity == kube.api.get(place(kube_namespace))["metadata"]["uid"]
        daemon.owned[seen.key] = seen.identity
    daemon.converge(wanted)
    assert kube.api.get(place(kube_namespace))["data"] == {"text": "one"}


def test_a_server_that_throttles_is_waited_for(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy
) -> None:
    wanted = one(kube_namespace)
    proxy.spoil(Fault(is_write, status=429, times=2, headers={"Retry-After": "1"}))
    at = time.monotonic()
    daemon.converge(wanted)
    assert time.monotonic() - at > 0.9
    assert kube.api.get(place(kube_namespace))["data"] == {"text": "one"}


@pytest.mark.parametrize("after", [False, True])
def test_a_server_that_breaks_over_a_write_is_asked_what_became_of_it(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy, *, after: bool
) -> None:
    wanted = one(kube_namespace)
    proxy.spoil(Fault(is_write, status=500, after=after, body={"reason": "InternalError", "message": "boom"}))
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.CHANGED
    assert result.identity == kube.api.get(place(kube_namespace))["metadata"]["uid"]
    assert writes(proxy) == (1 if after else 2)
    assert not daemon.plan(wanted).stages


def test_a_server_that_keeps_breaking_is_named_in_the_failure(
    kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy
) -> None:
    wanted = one(kube_namespace)
    proxy.spoil(Fault(is_write, status=500, times=99, body={"reason": "InternalError", "message": "boom"}))
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.FAILED
    assert result.finding
    assert (result.finding.code, result.finding.message.rpartition(": ")[2]) == ("server_error", "boom")


def test_a_gateway_that_gave_up_waiting_leaves_the_outcome_unknown(
    kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy
) -> None:
    wanted = one(kube_namespace)
    proxy.spoil(Fault(is_write, status=504, after=True))
    (result,) = daemon.write(wanted, daemon.plan(wanted))
    assert result.effect is model.Effect.UNKNOWN
    assert not daemon.plan(wanted).stages, "the look found that it was done"


@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_list_that_fails_deletes_nothing(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy, status: int
) -> None:
    both = openshift.desired(
        kube_namespace, *(openshift.config_map(kube_namespace, name, {"text": "x"}) for name in ("a", "b"))
    )
    daemon.converge(both)
    next_ = daemon.restarted()
    proxy.spoil(Fault(lambda method, path: method == "GET" and "labelSelector" in path, status=status, times=99))
    try:
        look = next_.look(one(kube_namespace, "x"))
    except errors.ReconcilerError:
        pass
    else:
        assert look.errors
        assert not next_.plan(one(kube_namespace, "x"), look).stages
    proxy.faults.clear()
    assert kube.api.get(place(kube_namespace))
    next_.converge(both)
    next_.driver.close()


def test_a_watch_that_is_cut_is_taken_up_again_and_misses_nothing(
    kube: planes.ControlPlane,
    kube_namespace: str,
    daemon: openshift.Daemon,
    proxy: faulty_proxy.Proxy,
    woken: list[str],
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.wait(lambda: proxy.streams)
    proxy.cut_watches()
    kube.api.patch(place(kube_namespace), {"data": {"text": "by hand"}})
    kube.api.wait(lambda: woken)
    daemon.converge(wanted)
    assert kube.api.get(place(kube_namespace))["data"] == {"text": "one"}


def test_a_watch_that_breaks_wakes_its_target_so_that_it_does_not_stay_green(
    kube: planes.ControlPlane,
    kube_namespace: str,
    daemon: openshift.Daemon,
    proxy: faulty_proxy.Proxy,
    woken: list[str],
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.wait(lambda: proxy.streams)
    woken.clear()
    proxy.spoil(Fault(lambda *_: True, status=503, times=999))
    proxy.cut_watches()
    kube.api.wait(lambda: woken)
    with pytest.raises(errors.TransientError):
        daemon.look(wanted)


def test_a_version_that_is_too_old_to_watch_from_is_listed_again(
    kube: planes.ControlPlane,
    kube_namespace: str,
    daemon: openshift.Daemon,
    proxy: faulty_proxy.Proxy,
    woken: list[str],
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.wait(lambda: proxy.streams)
    proxy.spoil(Fault(lambda _, path: "watch=" in path, status=410, body={"reason": "Expired"}))
    proxy.cut_watches()
    kube.api.patch(place(kube_namespace), {"data": {"text": "by hand"}})
    kube.api.wait(lambda: woken)
    kube.api.wait(lambda: sum("watch=" in path for _, path in proxy.seen) >= 3)
    daemon.converge(wanted)
    assert kube.api.get(place(kube_namespace))["data"] == {"text": "one"}


def test_a_look_while_no_watch_stands_asks_for_itself(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)
    kube.api.wait(lambda: proxy.streams)
    proxy.spoil(Fault(lambda _, path: "watch=" in path, status=503, times=999))
    proxy.cut_watches()
    kube.api.wait(lambda: sum("watch=" in path for _, path in proxy.seen) >= 2)
    time.sleep(0.1)
    kube.api.patch(place(kube_namespace), {"data": {"text": "by hand"}})
    (seen,) = daemon.look(wanted).observations
    assert seen.steps, "what an old watch left behind is not believed"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_whose_reader_died_is_not_believed_and_is_begun_again(
    kube: planes.ControlPlane, kube_namespace: str, daemon: openshift.Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = one(kube_namespace)
    daemon.converge(wanted)

    def dies(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(cache._Following, "_take", dies)
        kube.api.patch(place(kube_namespace), {"data": {"text": "by hand"}})
        kube.api.wait(lambda: "watch-configmaps" not in [thread.name for thread in threading.enumerate()])
    (seen,) = daemon.look(wanted).observations
    assert seen.steps
    assert "watch-configmaps" in [thread.name for thread in threading.enumerate()]


def test_a_redirect_is_not_followed(kube_namespace: str, daemon: openshift.Daemon, proxy: faulty_proxy.Proxy) -> None:
    proxy.spoil(Fault(lambda *_: True, status=302, times=99, headers={"Location": f"{proxy.url}/elsewhere"}))
    with pytest.raises(errors.PermanentError) as caught:
        daemon.look(one(kube_namespace))
    assert caught.value.code == "redirect"
    assert not any("elsewhere" in path for _, path in proxy.seen)


def test_a_server_that_nobody_vouches_for_is_not_spoken_to(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path, distrusting: str
) -> None:
    daemon = openshift.Daemon(openshift.facilities(tmp_path, distrusting))
    with pytest.raises(errors.PermanentError) as caught:
        daemon.look(one(kube_namespace))
    assert caught.value.code == "target.tls_untrusted"
    daemon.driver.close()


def test_a_server_that_is_not_there_is_an_error_and_not_an_empty_cluster(
    kube: planes.ControlPlane, kube_namespace: str, tmp_path: Path
) -> None:
    gone = kube.kubeconfig("deployer").replace(kube.url, "https://127.0.0.1:9")
    daemon = openshift.Daemon(openshift.facilities(tmp_path, gone))
    with pytest.raises(errors.TransientError) as caught:
        daemon.look(one(kube_namespace))
    assert caught.value.code == "unreachable"
    daemon.driver.close()
