# The smallest service that keeps a contract. A test changes single lines of it.
use strict;
use warnings;
use IO::Socket::INET;

$SIG{TERM} = sub { exit 0 };
$| = 1;

my $port = $ENV{PORT} // 8080;
die "PORT is $port, it must be a number\n" unless $port =~ /^[0-9]+$/;
# BEFORE
my $socket = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $port, Listen => 5, ReuseAddr => 1)
    or die "port $port: $!\n";
print "listening\n";
# AFTER
my %pages = (
    '/'        => sub { 'hello' },
    '/health'  => sub { 'well' },
    '/kept'    => sub { kept() },
    '/metrics' => sub { "# TYPE requests counter\nrequests 1\n" },
);

sub kept {
    open(my $file, '<', '/data/kept') or return 'nothing';
    return scalar <$file>;
}

sub keep {
    open(my $file, '>', '/data/kept') or die "/data/kept: $!\n";
    print $file 'something';
}

keep();
while (1) {
    my $client = $socket->accept or next;
    my $line = <$client> // '';
    while (defined(my $header = <$client>)) { last if $header =~ /^\r?\n$/ }
    my ($path) = $line =~ m{^GET (/\S*)};
    my $page = $pages{$path // ''};
    my $body = $page ? $page->() : 'nothing';
    my $status = $page ? '200 OK' : '404 Not Found';
    print $client "HTTP/1.0 $status\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    close $client;
}
