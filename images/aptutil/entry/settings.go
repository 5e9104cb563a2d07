package main

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// What is put between nginx's directives must not end one.
var (
	sizes     = regexp.MustCompile(`^[1-9][0-9]*[kmgKMG]$`)
	names     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	hostnames = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
	paths     = regexp.MustCompile(`^[A-Za-z0-9/._~+-]*$`)
)

// settings are the words of nginx's configuration that are this container's own.
type settings struct {
	Origins      []origin
	Resolvers    string // nameservers
	Certificates string
	CacheSize    string
}

// An origin is a repository, or several below one URL.
type origin struct {
	Label         string // what it is called here, the first part of a path
	Site          string // scheme, address and port
	Host          string // name and port, as it is called
	Name          string // its name, as in its certificate
	Path          string // "" or /debian
	Authorization string
}

// Variable is the label in the name of a variable of nginx, which has no dashes.
func (one origin) Variable() string { return strings.ReplaceAll(one.Label, "-", "_") }

// read takes the settings from the environment and from the texts of /etc/hosts, which nginx does not read, and
// /etc/resolv.conf. The error has all mistakes, a line each, and no password.
func read(get func(string) string, hosts, resolv string) (settings, error) {
	found := settings{
		Resolvers:    resolvers(resolv),
		Certificates: cmp.Or(get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt"),
		CacheSize:    cmp.Or(get("CACHE_SIZE"), "20g"),
	}
	var mistakes []error
	refuse := func(text string, words ...any) { mistakes = append(mistakes, fmt.Errorf("aptutil: "+text, words...)) }

	if !sizes.MatchString(found.CacheSize) {
		refuse("CACHE_SIZE must be a number with k, m or g, such as 20g")
	}
	if !paths.MatchString(found.Certificates) {
		refuse("SSL_CERT_FILE must be a path without special characters")
	}
	words := strings.Fields(get("ORIGINS"))
	if len(words) == 0 {
		refuse("ORIGINS is not set: say which repositories are to be cached, as in ORIGINS=debian=https://mirror.example.org/debian")
	}
	taken := map[string]bool{}
	for number, word := range words {
		label, address, _ := strings.Cut(word, "=")
		if !names.MatchString(label) { // what is no name may be a password
			refuse("ORIGINS: word %d must be NAME=URL, with a name of small letters, digits and dashes", number+1)
			continue
		}
		if label == "healthz" || taken[label] {
			refuse("ORIGINS: the name %s is taken", label)
			continue
		}
		taken[label] = true
		one, err := parse(label, address, hosts, found.Resolvers != "")
		if err != nil {
			refuse("ORIGINS: %s %w", label, err)
			continue
		}
		found.Origins = append(found.Origins, one)
	}
	return found, errors.Join(mistakes...)
}

// parse takes an origin's URL apart. No error has its text, where a password may be.
func parse(label, address, hosts string, resolved bool) (origin, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return origin{}, errors.New("must be one http or https URL, as in https://mirror.example.org/debian")
	}
	if parsed.RawQuery != "" || parsed.Fragment != "" || parsed.RawPath != "" || !paths.MatchString(parsed.Path) {
		return origin{}, errors.New("has a path or query that no repository has: " + parsed.Redacted())
	}
	found := origin{
		Label: label,
		Site:  parsed.Scheme + "://" + parsed.Host,
		Host:  parsed.Host,
		Name:  parsed.Hostname(),
		Path:  strings.TrimRight(parsed.Path, "/"),
	}
	if parsed.User != nil {
		password, _ := parsed.User.Password()
		login := parsed.User.Username() + ":" + password
		found.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
	}
	if _, err := netip.ParseAddr(found.Name); err == nil {
		return found, nil
	}
	there := lookup(hosts, found.Name)
	switch {
	case !hostnames.MatchString(found.Name):
		return origin{}, errors.New("has no host name that could be looked up: " + parsed.Redacted())
	case there != "":
		found.Site = parsed.Scheme + "://" + there + strings.TrimPrefix(parsed.Host, found.Name)
	case !resolved:
		return origin{}, errors.New("has a name, but /etc/resolv.conf names no nameserver: give this container DNS, or use an address")
	}
	return found, nil
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
