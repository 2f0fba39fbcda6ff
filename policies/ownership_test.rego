package ownership_test

import data.compliance_policy
import rego.v1

target(environment, labels, spec) := {
	"target": {"environment": environment, "labels": labels, "type": "vm", "document": {"spec": spec}},
	"files": {},
	"texts": {},
}

labelled := {"owner": "payments", "service": "payments-api"}

entry := {"key": "file//etc/motd", "path": "mode", "reason": "another team"}

test_a_production_target_without_an_owner_is_denied if {
	some denied in compliance_policy.deny with input as target("prod", {"service": "payments-api"}, {})
	denied.fix == "add metadata.labels.owner"
}

test_a_production_target_with_an_empty_owner_is_denied if {
	count(compliance_policy.deny) == 1 with input as target("prod", {"owner": "", "service": "payments-api"}, {})
}

test_a_labelled_production_target_passes if {
	count(compliance_policy.deny) == 0 with input as target("prod", labelled, {})
}

test_a_development_target_needs_no_labels if {
	count(compliance_policy.deny) == 0 with input as target("dev", {}, {})
}

test_an_endless_exception_in_production_is_denied if {
	some denied in compliance_policy.deny with input as target("prod", labelled, {"ignore": [entry]})
	denied.path == ["spec", "ignore", 0]
}

test_an_exception_with_an_end_passes if {
	dated := object.union(entry, {"until": "2027-01-31"})
	count(compliance_policy.deny) == 0 with input as target("prod", labelled, {"ignore": [dated]})
}
