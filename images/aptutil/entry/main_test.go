package main

import (
	"os"
	"strings"
	"testing"
)

const (
	hosts  = "127.0.0.1\tlocalhost\n::1 localhost\n# 10.0.0.1 off.example\n10.1.2.3 Near.example other # comment\nfd00::1 six.example\n"
	resolv = "# written by hand\nsearch example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver x\n"
)

func environment(words ...string) func(string) string {
	given := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		given[name] = value
	}
	return func(name string) string { return given[name] }
}

func TestOriginsAreCalledByTheirNamesWhereverTheirAddressesComeFrom(t *testing.T) {
	found, err := read(environment("ORIGINS=debian=https://a.example/debian/\n  my-team=http://me:p%40ss@near.example:81 six=https://six.example:1/x"), hosts, resolv)
	if err != nil {
		t.Fatal(err)
	}
	want := []origin{
		{"debian", "https://a.example", "a.example", "a.example", "/debian", ""},
		{"my-team", "http://10.1.2.3:81", "near.example:81", "near.example", "", "Basic bWU6cEBzcw=="},
		{"six", "https://[fd00::1]:1", "six.example:1", "six.example", "/x", ""},
	}
	for number, one := range want {
		if found.Origins[number] != one {
			t.Errorf("%+v is not %+v", found.Origins[number], one)
		}
	}
	if len(found.Origins) != len(want) || found.Resolvers != "192.0.2.1 [2001:db8::1]" || found.CacheSize != "20g" {
		t.Errorf("%+v", found)
	}
}

func TestWhatCannotBeUsedIsRefusedWithAllMistakesAndNoPassword(t *testing.T) {
	for _, test := range []struct {
		given  []string
		resolv string
		says   []string
	}{
		{nil, resolv, []string{"ORIGINS is not set"}},
		{[]string{"ORIGINS= ", "CACHE_SIZE=10", "SSL_CERT_FILE=/a;b"}, resolv, []string{"CACHE_SIZE must", "SSL_CERT_FILE must", "ORIGINS is not set"}},
		{[]string{"ORIGINS=https://me:secret@a.example"}, resolv, []string{"word 1 must be NAME=URL"}},
		{[]string{"ORIGINS=A=http://a b_c=http://a"}, resolv, []string{"word 1 must", "word 2 must"}},
		{[]string{"ORIGINS=a=http://a a=http://b healthz=http://c"}, resolv, []string{"name a is taken", "name healthz is taken"}},
		{[]string{"ORIGINS=a=ftp://a.example b=http://me:secret@b:x/"}, resolv, []string{"a must be one http", "b must be one http"}},
		{[]string{"ORIGINS=a=http://me:secret@a.example/;x b=http://b/?x c=http://c/a%2fb"}, resolv, []string{"a has a path", "b has a path", "c has a path"}},
		{[]string{"ORIGINS=a=https://me:secret@a;b/"}, resolv, []string{"no host name"}},
		{[]string{"ORIGINS=a=https://a.example"}, "", []string{"no nameserver"}},
	} {
		_, err := read(environment(test.given...), hosts, test.resolv)
		if err == nil {
			t.Errorf("%v is accepted", test.given)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(test.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %q", test.given, lines)
			continue
		}
		for number, says := range test.says {
			if !strings.HasPrefix(lines[number], "aptutil: ") || !strings.Contains(lines[number], says) {
				t.Errorf("%v: %q does not say %q", test.given, lines[number], says)
			}
		}
	}
}

func TestAnAddressNeedsNoNameserver(t *testing.T) {
	if found, err := read(environment("ORIGINS=a=http://192.0.2.7:1 b=http://localhost"), hosts, ""); err != nil || found.Resolvers != "" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestTheConfigurationIsFilledInFull(t *testing.T) {
	text, err := os.ReadFile("../config/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	found, err := read(environment("ORIGINS=debian=https://me:x@a.example/debian my-team=http://127.0.0.1:1"), hosts, resolv)
	if err != nil {
		t.Fatal(err)
	}
	made, err := fill(string(text), found)
	if err != nil || strings.Contains(string(made), "{{") {
		t.Fatal(err, string(made))
	}
	for _, line := range []string{
		"resolver 192.0.2.1 [2001:db8::1];", `"^/(debian|my-team)/.+[^/]$"`, "proxy_pass $site/debian$file;", "max_size=20g",
		`Authorization "Basic bWU6eA==";`, "set $site http://127.0.0.1:1;", "set $there $elsewhere_my_team;",
	} {
		if !strings.Contains(string(made), line) {
			t.Errorf("lacks %s", line)
		}
	}
}
