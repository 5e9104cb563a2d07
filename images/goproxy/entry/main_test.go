package main

import (
	"os"
	"strings"
	"testing"
)

const (
	hosts  = "127.0.0.1\tlocalhost\n::1 localhost\n# 10.0.0.1 off.example\n10.1.2.3 Near.example other # comment\nfd00::1 six.example\n"
	resolv = "# written by hand\nsearch example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver x\n"
	names  = "192.0.2.1 [2001:db8::1]"
)

func environment(words ...string) func(string) string {
	given := map[string]string{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		given[name] = value
	}
	return func(name string) string { return given[name] }
}

func TestAnOriginIsCalledByItsNameWhereverItsAddressComesFrom(t *testing.T) {
	for _, test := range []struct{ origin, site, host, name, path string }{
		{"https://proxy.example", "https://proxy.example", "proxy.example", "proxy.example", ""},
		{"https://proxy.example/", "https://proxy.example", "proxy.example", "proxy.example", ""},
		{"http://proxy.example:8080/a/go/", "http://proxy.example:8080", "proxy.example:8080", "proxy.example", "/a/go"},
		{"http://localhost:3000", "http://127.0.0.1:3000", "localhost:3000", "localhost", ""},
		{"https://near.example", "https://10.1.2.3", "near.example", "near.example", ""},
		{"https://six.example:1", "https://[fd00::1]:1", "six.example:1", "six.example", ""},
		{"https://off.example", "https://off.example", "off.example", "off.example", ""},
		{"http://[::1]:80/x", "http://[::1]:80", "[::1]:80", "::1", "/x"},
	} {
		found, err := read(environment("ORIGIN="+test.origin), hosts, resolv)
		if err != nil || found.Site != test.site || found.Host != test.host || found.Name != test.name || found.Path != test.path {
			t.Errorf("%s: %+v, %v", test.origin, found, err)
		}
		if found.Resolvers != names || found.Authorization != "" || found.CacheSize != "10g" {
			t.Errorf("%s: %+v", test.origin, found)
		}
	}
}

func TestSettingsAreTaken(t *testing.T) {
	found, err := read(environment("ORIGIN=https://me:p%40ss@a.example", "CACHE_SIZE=512m", "SSL_CERT_FILE=/certs/ca.pem"), "", resolv)
	if err != nil || found.Authorization != "Basic bWU6cEBzcw==" || found.CacheSize != "512m" || found.Certificates != "/certs/ca.pem" {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhatCannotBeUsedIsRefusedWithAllMistakesAndNoPassword(t *testing.T) {
	for _, test := range []struct {
		given []string
		hosts string
		says  []string
	}{
		{nil, hosts, []string{"ORIGIN is not set"}},
		{[]string{"CACHE_SIZE=10", "SSL_CERT_FILE=/a;b"}, hosts, []string{"CACHE_SIZE must", "SSL_CERT_FILE must", "ORIGIN is not set"}},
		{[]string{"ORIGIN=proxy.example"}, hosts, []string{"must be one http or https URL"}},
		{[]string{"ORIGIN=ftp://proxy.example"}, hosts, []string{"must be one http or https URL"}},
		{[]string{"ORIGIN=https://a.example,direct"}, hosts, []string{"no host name"}},
		{[]string{"ORIGIN=https://me:secret@a.example:x/"}, hosts, []string{"must be one http or https URL"}},
		{[]string{"ORIGIN=https://me:secret@a.example/;x"}, hosts, []string{"path or query"}},
		{[]string{"ORIGIN=https://me:secret@a;b/", "CACHE_SIZE=0g"}, hosts, []string{"CACHE_SIZE must", "no host name"}},
		{[]string{"ORIGIN=https://a.example/?x=1"}, hosts, []string{"path or query"}},
		{[]string{"ORIGIN=https://a.example/a%2fb"}, hosts, []string{"path or query"}},
	} {
		_, err := read(environment(test.given...), test.hosts, resolv)
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
			if !strings.HasPrefix(lines[number], "goproxy: ") || !strings.Contains(lines[number], says) {
				t.Errorf("%v: %q does not say %q", test.given, lines[number], says)
			}
		}
	}
}

func TestANameNeedsANameserverAndAnAddressDoesNot(t *testing.T) {
	if _, err := read(environment("ORIGIN=https://a.example"), hosts, ""); err == nil || !strings.Contains(err.Error(), "no nameserver") {
		t.Errorf("%v", err)
	}
	for _, origin := range []string{"http://192.0.2.7:1", "http://localhost:1"} {
		if found, err := read(environment("ORIGIN="+origin), hosts, ""); err != nil || found.Resolvers != "" {
			t.Errorf("%s: %+v, %v", origin, found, err)
		}
	}
}

func TestTheConfigurationIsFilledInFull(t *testing.T) {
	text, err := os.ReadFile("../config/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		origin, resolv string
		has, hasNot    []string
	}{
		{"https://me:x@a.example/go", resolv,
			[]string{"resolver " + names + ";", "set $site https://a.example;", "proxy_pass $site/go$request_uri;",
				`Authorization "Basic bWU6eA==";`, "proxy_ssl_name a.example;", "max_size=10g"}, nil},
		{"http://127.0.0.1:1", "", []string{"set $site http://127.0.0.1:1;", "proxy_pass $site$request_uri;"},
			[]string{"resolver", "Authorization"}},
	} {
		found, err := read(environment("ORIGIN="+test.origin), "", test.resolv)
		if err != nil {
			t.Fatal(err)
		}
		filled, err := fill(string(text), found)
		if err != nil {
			t.Fatal(err)
		}
		body := string(filled)
		for _, line := range test.has {
			if !strings.Contains(body, line) {
				t.Errorf("%s: %q is missing", test.origin, line)
			}
		}
		for _, word := range append(test.hasNot, "{{", "<no value>") {
			if strings.Contains(body, word) {
				t.Errorf("%s: there is %q", test.origin, word)
			}
		}
	}
}
