package main

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// What is put between nginx's directives must not end one.
var (
	sizes     = regexp.MustCompile(`^[1-9][0-9]*[kmgKMG]$`)
	hostnames = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	paths     = regexp.MustCompile(`^[A-Za-z0-9/._~-]*$`)
)

// settings are the words of nginx's configuration that are this container's own.
type settings struct {
	Site          string // scheme, address and port of the origin
	Host          string // its name and port, as it is called
	Name          string // its name, as in its certificate
	Path          string // "" or /go, of the origin's URL
	Authorization string
	Resolvers     string // nameservers
	Certificates  string
	CacheSize     string
}

// read takes the settings from the environment and from the texts of /etc/hosts, which nginx does not read, and
// /etc/resolv.conf. The error has all mistakes, a line each, and no password.
func read(get func(string) string, hosts, resolv string) (settings, error) {
	found := settings{
		Resolvers:    resolvers(resolv),
		Certificates: cmp.Or(get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt"),
		CacheSize:    cmp.Or(get("CACHE_SIZE"), "10g"),
	}
	var mistakes []error
	refuse := func(text string) { mistakes = append(mistakes, errors.New("goproxy: "+text)) }

	if !sizes.MatchString(found.CacheSize) {
		refuse("CACHE_SIZE must be a number with k, m or g, such as 10g")
	}
	if !paths.MatchString(found.Certificates) {
		refuse("SSL_CERT_FILE must be a path without special characters")
	}
	if get("ORIGIN") == "" {
		refuse("ORIGIN is not set: say which Go module proxy is to be cached, as in ORIGIN=https://proxy.example.org")
		return found, errors.Join(mistakes...)
	}
	origin, err := url.Parse(get("ORIGIN"))
	if err != nil || origin.Scheme != "http" && origin.Scheme != "https" || origin.Host == "" {
		refuse("ORIGIN must be one http or https URL, as in https://proxy.example.org") // its text may have a password
		return found, errors.Join(mistakes...)
	}
	if origin.RawQuery != "" || origin.Fragment != "" || origin.RawPath != "" || !paths.MatchString(origin.Path) {
		refuse("ORIGIN has a path or query that no module proxy has: " + origin.Redacted())
	}
	if origin.User != nil {
		password, _ := origin.User.Password()
		login := origin.User.Username() + ":" + password
		found.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
	}
	found.Host, found.Name, found.Path = origin.Host, origin.Hostname(), strings.TrimRight(origin.Path, "/")
	found.Site = origin.Scheme + "://" + origin.Host

	if _, err := netip.ParseAddr(found.Name); err == nil {
		return found, errors.Join(mistakes...)
	}
	address := lookup(hosts, found.Name)
	switch {
	case !hostnames.MatchString(found.Name):
		refuse("ORIGIN has no host name that could be looked up: " + origin.Redacted())
	case address != "":
		found.Site = origin.Scheme + "://" + address + strings.TrimPrefix(origin.Host, found.Name)
	case found.Resolvers == "":
		refuse("ORIGIN has a name, but /etc/resolv.conf names no nameserver: give this container DNS, or use an address")
	}
	return found, errors.Join(mistakes...)
}

// resolvers are the nameservers of a resolv.conf, as nginx writes them.
func resolvers(resolv string) string {
	var found []string
	for line := range strings.Lines(resolv) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if address, err := netip.ParseAddr(words[1]); err == nil && address.Zone() == "" {
			found = append(found, literal(address))
		}
	}
	return strings.Join(found, " ")
}

// lookup is the first address that a hosts file has for a name.
func lookup(hosts, name string) string {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		address, err := netip.ParseAddr(words[0])
		if err != nil || address.Zone() != "" {
			continue
		}
		for _, word := range words[1:] {
			if strings.EqualFold(word, name) {
				return literal(address)
			}
		}
	}
	return ""
}

func literal(address netip.Addr) string {
	if address.Is6() {
		return "[" + address.String() + "]"
	}
	return address.String()
}
