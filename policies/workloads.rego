# What runs in a cluster: images by name and version, enough of them in production, without root's rights.
package compliance_policy

import rego.v1

controllers := {"DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"}

# Every workload of any payload file, whether the file holds one document or several, with its place in it.
workloads contains {"file": file, "at": at, "object": object_} if {
	input.target.type == "openshift"
	some file, value in input.files
	some at, object_
	walk(value, [at, object_])
	is_object(object_)
	object.get(object_, "kind", "") in controllers
}

containers contains {"file": workload.file, "at": array.concat(workload.at, ["spec", "template", "spec", list, i]), "object": container} if {
	some workload in workloads
	some list in ["containers", "initContainers"]
	some i, container in workload.object.spec.template.spec[list]
}

deny contains {
	"rule": "floating_image",
	"msg": sprintf("the image %s of %s says no fixed version", [image, container.object.name]),
	"file": container.file,
	"path": array.concat(container.at, ["image"]),
	"fix": "name a version, or better a digest",
} if {
	some container in containers
	image := object.get(container.object, "image", "")
	floating(image)
}

floating(image) if endswith(image, ":latest")

floating(image) if {
	not contains(image, "@sha256:")
	parts := split(image, "/")
	not contains(parts[count(parts) - 1], ":")
}

deny contains {
	"rule": "few_replicas",
	"msg": sprintf("%s runs fewer than two replicas in production", [workload.object.metadata.name]),
	"file": workload.file,
	"path": array.concat(workload.at, ["spec", "replicas"]),
	"fix": "set replicas to 2 or more",
} if {
	input.target.environment == "prod"
	some workload in workloads
	workload.object.kind in {"Deployment", "StatefulSet"}
	object.get(workload.object.spec, "replicas", 1) < 2
}

deny contains {
	"rule": "privileged",
	"msg": sprintf("%s is privileged", [container.object.name]),
	"file": container.file,
	"path": array.concat(container.at, ["securityContext"]),
	"fix": "remove securityContext.privileged",
} if {
	some container in containers
	container.object.securityContext.privileged == true
}
