# Who answers for a target, in production.
package compliance_policy

import rego.v1

required_labels := {"owner", "service"}

deny contains {
	"rule": "missing_label",
	"msg": sprintf("a production target names its %s in metadata.labels", [label]),
	"path": ["metadata", "labels"],
	"fix": sprintf("add metadata.labels.%s", [label]),
} if {
	input.target.environment == "prod"
	some label in required_labels
	object.get(input.target.labels, label, "") == ""
}

deny contains {
	"rule": "open_ended_ignore",
	"msg": sprintf("a production target leaves %s to others without a date", [entry.key]),
	"path": ["spec", "ignore", i],
	"fix": "add until: \"<date>\"",
} if {
	input.target.environment == "prod"
	some i, entry in object.get(input.target.document.spec, "ignore", [])
	object.get(entry, "until", "") == ""
}
