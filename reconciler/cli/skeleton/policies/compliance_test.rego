package compliance_test

import data.compliance_policy
import rego.v1

target(environment, labels) := {
	"target": {"environment": environment, "labels": labels},
	"files": {},
	"texts": {},
}

test_a_production_target_without_an_owner_is_denied if {
	count(compliance_policy.deny) == 1 with input as target("prod", {})
}

test_a_production_target_with_an_owner_passes if {
	count(compliance_policy.deny) == 0 with input as target("prod", {"owner": "payments"})
}

test_a_development_target_needs_none if {
	count(compliance_policy.deny) == 0 with input as target("dev", {})
}
