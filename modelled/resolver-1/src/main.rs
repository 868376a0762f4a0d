fn main() {
    asymfence::light_fence();
    asymfence::heavy_fence();
    println!("fenced");
}
