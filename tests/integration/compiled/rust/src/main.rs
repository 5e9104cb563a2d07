fn main() {
    let word = std::env::args().nth(1).expect("a word");
    println!("{:08x} {}", crc32fast::hash(word.as_bytes()), std::env::consts::ARCH);
}
