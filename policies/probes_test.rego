package probes_test

import data.compliance_policy
import rego.v1

probed(environment, health) := {
	"target": {
		"environment": environment,
		"labels": {"owner": "payments", "service": "api"},
		"type": "vm",
		"document": {"spec": {"health": health}},
	},
	"files": {},
	"texts": {},
}

test_a_probe_in_clear_text_in_production_is_denied if {
	probes := [{"port": {"port": 443}}, {"http": {"url": "http://app.prod.bank.example/healthz"}}]
	some denied in compliance_policy.deny with input as probed("prod", probes)
	denied.path == ["spec", "health", 1, "http", "url"]
}

test_a_probe_over_tls_passes if {
	count(compliance_policy.deny) == 0 with input as probed("prod", [{"http": {"url": "https://app.prod.bank.example/"}}])
}

test_a_probe_in_clear_text_in_development_passes if {
	count(compliance_policy.deny) == 0 with input as probed("dev", [{"http": {"url": "http://localhost:8080/"}}])
}

test_no_probe_in_production_is_warned_of if {
	count(compliance_policy.warn) == 1 with input as probed("prod", [])
}

test_one_probe_is_enough if {
	count(compliance_policy.warn) == 0 with input as probed("prod", [{"port": {"port": 443}}])
}
