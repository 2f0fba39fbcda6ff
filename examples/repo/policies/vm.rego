# What stands on a host: nobody outside of owner and group writes it, and root's bits are set by nobody.
package compliance_policy

import rego.v1

# Every file and directory of a vm.yaml, with its place in it.
resources contains {"path": path, "mode": mode, "at": [kind, i]} if {
	input.target.type == "vm"
	some kind in ["directories", "files"]
	some i, resource in input.files["vm.yaml"][kind]
	path := object.get(resource, "path", "")
	mode := object.get(resource, "mode", "")
}

deny contains {
	"rule": "world_writable",
	"msg": sprintf("%s may be written by everybody (mode %s)", [resource.path, resource.mode]),
	"file": "vm.yaml",
	"path": array.concat(resource.at, ["mode"]),
	"fix": "take the write bit from others: \"0644\" for a file, \"0755\" for a directory",
} if {
	some resource in resources
	regex.match(`[2367]$`, resource.mode)
}

deny contains {
	"rule": "borrowed_rights",
	"msg": sprintf("%s would run with its owner's or group's rights (mode %s)", [resource.path, resource.mode]),
	"file": "vm.yaml",
	"path": array.concat(resource.at, ["mode"]),
	"fix": "leave setuid and setgid bits out",
} if {
	some resource in resources
	regex.match(`^[2-7][0-7]{3}$`, resource.mode)
}

deny contains {
	"rule": "private_key",
	"msg": sprintf("%s holds a private key: secrets stand in Git as references only", [path]),
	"file": path,
	"fix": "store it in the vault, replace it there, and remove it from the history",
} if {
	some path, text in input.texts
	regex.match(`-----BEGIN [A-Z ]*PRIVATE KEY-----`, text)
}
