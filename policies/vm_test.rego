package vm_test

import data.compliance_policy
import rego.v1

host(document, texts) := {
	"target": {"environment": "dev", "labels": {}, "type": "vm", "document": {"spec": {}}},
	"files": {"vm.yaml": document},
	"texts": texts,
}

file(mode) := {"files": [{"path": "app.conf", "source": "files/app.conf", "mode": mode}]}

folder(mode) := {"directories": [{"path": "conf.d", "mode": mode}]}

test_a_file_that_everybody_may_write_is_denied if {
	some denied in compliance_policy.deny with input as host(file("0666"), {})
	denied.path == ["files", 0, "mode"]
	denied.file == "vm.yaml"
}

test_a_directory_that_everybody_may_write_is_denied if {
	some denied in compliance_policy.deny with input as host(folder("0777"), {})
	denied.path == ["directories", 0, "mode"]
}

test_a_file_that_others_may_only_read_passes if {
	count(compliance_policy.deny) == 0 with input as host(file("0644"), {})
}

test_a_setuid_file_is_denied if {
	some denied in compliance_policy.deny with input as host(file("4755"), {})
	contains(denied.msg, "rights")
}

test_a_sticky_directory_passes if {
	count(compliance_policy.deny) == 0 with input as host(folder("1775"), {})
}

test_a_private_key_is_denied if {
	key := concat("", ["-----BEGIN OPENSSH ", "PRIVATE KEY-----"])
	some denied in compliance_policy.deny with input as host(file("0600"), {"files/id": key})
	denied.file == "files/id"
}

test_a_public_key_passes if {
	count(compliance_policy.deny) == 0 with input as host(file("0644"), {"files/id.pub": "ssh-ed25519 AAAA"})
}
