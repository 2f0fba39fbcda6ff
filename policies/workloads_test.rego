package workloads_test

import data.compliance_policy
import rego.v1

cluster(environment, value) := {
	"target": {
		"environment": environment,
		"labels": {"owner": "payments", "service": "api"},
		"type": "openshift",
		"document": {"spec": {}},
	},
	"files": {"manifests/api.yaml": value},
	"texts": {},
}

deployment(replicas, container) := {
	"apiVersion": "apps/v1",
	"kind": "Deployment",
	"metadata": {"name": "api"},
	"spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
}

good := {"name": "api", "image": "registry.bank.example/api:1.4.2"}

test_a_workload_with_a_version_and_two_replicas_passes if {
	count(compliance_policy.deny) == 0 with input as cluster("prod", deployment(2, good))
}

test_the_tag_latest_is_denied if {
	some denied in compliance_policy.deny with input as cluster("dev", deployment(1, {"name": "api", "image": "api:latest"}))
	denied.path == ["spec", "template", "spec", "containers", 0, "image"]
}

test_an_image_without_a_tag_is_denied if {
	image := "registry.bank.example:5000/api"
	count(compliance_policy.deny) == 1 with input as cluster("dev", deployment(1, {"name": "api", "image": image}))
}

test_an_image_by_digest_passes if {
	image := "registry.bank.example/api@sha256:0000"
	count(compliance_policy.deny) == 0 with input as cluster("dev", deployment(1, {"name": "api", "image": image}))
}

test_one_replica_in_production_is_denied_in_the_second_document_of_a_file if {
	documents := [{"kind": "Namespace", "metadata": {"name": "payments"}}, deployment(1, good)]
	some denied in compliance_policy.deny with input as cluster("prod", documents)
	denied.path == [1, "spec", "replicas"]
}

test_one_replica_elsewhere_passes if {
	count(compliance_policy.deny) == 0 with input as cluster("dev", deployment(1, good))
}

test_a_privileged_container_is_denied if {
	container := object.union(good, {"securityContext": {"privileged": true}})
	some denied in compliance_policy.deny with input as cluster("dev", deployment(1, container))
	contains(denied.msg, "privileged")
}

test_a_container_that_is_not_privileged_passes if {
	container := object.union(good, {"securityContext": {"privileged": false}})
	count(compliance_policy.deny) == 0 with input as cluster("dev", deployment(1, container))
}
