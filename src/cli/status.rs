//! Wiring: placeholder until the view lands.
pub fn render(status: &crate::admin::document::Status, _colour: bool) -> String {
    format!("{status:?}\n")
}
