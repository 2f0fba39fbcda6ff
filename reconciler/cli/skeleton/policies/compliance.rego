# Who answers for a target, in production. `opa: compliance_policy` in a target's deploy.checks asks this.
package compliance_policy

import rego.v1

deny contains {
	"msg": "a production target names its owner in metadata.labels",
	"path": ["metadata", "labels"],
	"fix": "add metadata.labels.owner",
} if {
	input.target.environment == "prod"
	object.get(input.target.labels, "owner", "") == ""
}
