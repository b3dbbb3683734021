//! Records of usage, as whoever stands at the wire may say them.

use storaged::hourly::pieced;

/// Lines that are kept are as many as came, each an object on its own: nobody's line ends another's.
pub fn lines(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // A zero byte between them, so that a line may hold whatever a line must not.
    let lines: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let Ok(piece) = pieced(&lines) else { return };
    let kept = String::from_utf8(piece).expect("strings were put together");
    assert_eq!(kept.lines().count(), lines.len(), "another number of lines");
    for line in kept.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("a kept line is JSON");
        assert!(value.is_object(), "a kept line is no object");
    }
}
