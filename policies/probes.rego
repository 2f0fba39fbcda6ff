# How the health of a production target is asked: it is asked at all, and over TLS.
package compliance_policy

import rego.v1

deny contains {
	"rule": "clear_text_probe",
	"msg": sprintf("a production target is probed in clear text (%s)", [url]),
	"path": ["spec", "health", i, "http", "url"],
	"fix": "write https://",
} if {
	input.target.environment == "prod"
	some i, probe in object.get(input.target.document.spec, "health", [])
	url := probe.http.url
	not startswith(url, "https://")
}

warn contains {
	"rule": "no_probe",
	"msg": "a production target without a probe counts as healthy as soon as it was written",
	"path": ["spec"],
	"fix": "add a probe under spec.health",
} if {
	input.target.environment == "prod"
	count(object.get(input.target.document.spec, "health", [])) == 0
}
