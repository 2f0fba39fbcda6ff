"""Whether what does not run pods serves: volumes, budgets, services, routes, definitions, namespaces. Pure.

Kubernetes' own after kstatus (cli-utils, pkg/kstatus/status/core.go); OpenShift's after the API reference of 4.x.
"""

from __future__ import annotations

from datetime import datetime

from reconciler.targets.openshift.judging import judged
from reconciler.targets.openshift.judging.judged import Body, Judged, Status


def claim(body: Body, _now: datetime | None) -> Judged:
    match judged.text(body, "status", "phase"):
        case "Bound":
            return judged.current("bound")
        case "Lost":
            return judged.failed("the volume behind it is lost")
        case phase:
            return judged.in_progress(f"phase {phase or 'not set'}: not bound to a volume")


def volume(body: Body, _now: datetime | None) -> Judged:
    match judged.text(body, "status", "phase"):
        case "Available" | "Bound" | "Released" as phase:
            return judged.current(phase.lower())
        case "Failed":
            return judged.failed(judged.text(body, "status", "message") or "reclaiming the volume failed")
        case phase:
            return judged.in_progress(f"phase {phase or 'not set'}")


def budget(body: Body, _now: datetime | None) -> Judged:
    """A PodDisruptionBudget that its pods do not meet. Its controller always says which generation it saw."""
    if judged.number(body, "status", "observedGeneration", default=-1) < 0:
        return judged.in_progress("its controller has not seen it yet")
    have, need = judged.number(body, "status", "currentHealthy"), judged.number(body, "status", "desiredHealthy")
    return (
        judged.in_progress(f"{have} healthy pods, {need} needed") if have < need else judged.current(f"{have} healthy")
    )


def service(body: Body, _now: datetime | None) -> Judged:
    kind = judged.text(body, "spec", "type") or "ClusterIP"
    if kind == "ExternalName":
        return judged.current()
    if not judged.text(body, "spec", "clusterIP"):
        return judged.in_progress("no cluster address")
    if kind == "LoadBalancer" and not judged.mappings(body, "status", "loadBalancer", "ingress"):
        return judged.in_progress("no load balancer has given it an address")
    return judged.current(kind)


def ingress(body: Body, _now: datetime | None) -> Judged:
    if judged.mappings(body, "status", "loadBalancer", "ingress"):
        return judged.current("has an address")
    return judged.in_progress("no controller has given it an address")


def autoscaler(body: Body, _now: datetime | None) -> Judged:
    """A HorizontalPodAutoscaler. `ScalingActive` is false on purpose where its target has zero replicas."""
    found = judged.conditions(body)
    for name in ("AbleToScale", "ScalingActive"):
        condition = found.get(name)
        if condition is None:
            return judged.in_progress(f"{name} is not known yet")
        if condition.status != "True" and condition.reason != "ScalingDisabled":
            return judged.in_progress(condition.words)
    return judged.current("scales")


def definition(body: Body, _now: datetime | None) -> Judged:
    """A CustomResourceDefinition. Names that another one holds never become free by waiting."""
    found = judged.conditions(body)
    names, established = found.get("NamesAccepted"), found.get("Established")
    if names and names.status == "False":
        return judged.failed(names.words)
    if established is None:
        return judged.in_progress("not yet established")
    if established.status == "True":
        return judged.current("established")
    return (
        judged.in_progress(established.words)
        if established.reason == "Installing"
        else judged.failed(established.words)
    )


def api_service(body: Body, _now: datetime | None) -> Judged:
    available = judged.conditions(body).get("Available")
    if available is None or available.status != "True":
        return judged.in_progress(available.words if available else "not yet available")
    return judged.current("available")


def namespace(body: Body, _now: datetime | None) -> Judged:
    """A Namespace or an OpenShift Project."""
    match judged.text(body, "status", "phase"):
        case "Active":
            return judged.current("active")
        case "Terminating":
            return Judged(Status.TERMINATING, "being deleted")
        case phase:
            return judged.in_progress(f"phase {phase or 'not set'}")


def quota(body: Body, _now: datetime | None) -> Judged:
    """A quota that its controller has not taken up lets everything through, or nothing."""
    taken = judged.at(body, "status", "hard")
    if taken == judged.at(body, "spec", "hard"):
        return judged.current("in force")
    return judged.in_progress("not yet in force")


def route(body: Body, _now: datetime | None) -> Judged:
    """Every router that has seen the route must have admitted it; one that said no waits for a change that nobody promised."""
    routers = judged.mappings(body, "status", "ingress")
    if not routers:
        return judged.in_progress("no router has seen it")
    for each in routers:
        admitted = judged.conditions({"status": {"conditions": judged.at(each, "conditions")}}).get("Admitted")
        name = judged.text(each, "routerName") or "a router"
        if admitted is None:
            return judged.in_progress(f"{name} has not judged it")
        if admitted.status != "True":
            words = f"{name}: {admitted.words}"
            return judged.failed(words) if admitted.status == "False" else judged.in_progress(words)
    return judged.current("admitted")


def image_stream(body: Body, _now: datetime | None) -> Judged:
    """Each declared tag has an image of this generation, and no import of it failed. A stream without tags waits for pushes."""
    there = {judged.text(each, "tag"): each for each in judged.mappings(body, "status", "tags")}
    for declared in judged.mappings(body, "spec", "tags"):
        name = judged.text(declared, "name")
        tag = there.get(name)
        if tag is None:
            return judged.in_progress(f"tag {name}: not imported yet")
        imported = judged.conditions({"status": {"conditions": judged.at(tag, "conditions")}}).get("ImportSuccess")
        if imported and imported.status == "False":
            behind = imported.generation is not None and imported.generation < judged.number(declared, "generation")
            return (
                judged.in_progress(f"tag {name}: importing")
                if behind
                else judged.failed(f"tag {name}: {imported.words}")
            )
        items = judged.mappings(tag, "items")
        if not items:
            return judged.in_progress(f"tag {name}: no image yet")
        if max(judged.number(each, "generation") for each in items) < judged.number(declared, "generation"):
            return judged.in_progress(f"tag {name}: the image is of an older generation")
    return judged.current("imported")
