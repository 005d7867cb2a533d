//! What passes one port of the switch, or any other interface: every frame that comes in there, kept and shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};
use strata::wire::show;

use super::node::Node;

pub struct Watch {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    sender: Box<dyn DataLinkSender>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// From now on.
    pub fn on(host: &Node, device: &str) -> Watch {
        let (sender, receiver) = host.enter(|| {
            let interfaces = datalink::interfaces();
            let interface = interfaces.iter().find(|interface| interface.name == device).expect("the interface");
            let config = Config { read_timeout: Some(Duration::from_millis(20)), ..Config::default() };
            match datalink::channel(interface, config) {
                Ok(Channel::Ethernet(sender, receiver)) => (sender, receiver),
                other => panic!("no packet socket on {device}: {:?}", other.err()),
            }
        });
        let (frames, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (frames, stop) = (Arc::clone(&frames), stop.clone());
            move || keep(receiver, &frames, &stop)
        });
        Watch { frames, sender, stop, thread: Some(thread) }
    }

    /// Every frame so far, as `strata::wire::show` prints it.
    pub fn shown(&self) -> Vec<String> {
        self.frames.lock().iter().map(|frame| show::frame(frame).to_string()).collect()
    }

    /// How many of them have all these words.
    pub fn count(&self, words: &[&str]) -> usize {
        self.shown().iter().filter(|frame| words.iter().all(|word| frame.contains(word))).count()
    }

    /// Sends a frame from here.
    pub fn send(&mut self, frame: &[u8]) {
        self.sender.send_to(frame, None).expect("a sender").expect("the frame is sent");
    }
}

fn keep(mut receiver: Box<dyn DataLinkReceiver>, frames: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        // Nothing came in time, or the port is down for a while.
        if let Ok(frame) = receiver.next() {
            frames.lock().push(frame.to_vec());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
